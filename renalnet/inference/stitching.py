"""Overlapping sub-volumes through a network, settled by majority vote (Yang et al., ICPR 2018, II.B).

A voxel gets one vote from each sub-volume that covers it. The paper does not say how ties end; here they go
to the tied class of larger summed probability (reconstruction). A mean of probabilities alone would not be
a vote: one very sure sub-volume could overrule two mildly sure ones.

An ensemble's networks vote in one ballot: each gives its own votes for its sub-volumes, and all are counted together.

Sub-volumes pass from the first slice to the last, and a slice is settled as soon as the last sub-volume that covers it
has voted, so that the memory does not grow with the length of the ROI.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, combinations, product
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from renalnet.config import StitchConfig
from renalnet.errors import InputError
from renalnet.inference.batch_size import BatchSizer
from renalnet.types import NUM_CLASSES, FloatArray, LabelArray

Forward = Callable[[Tensor], Tensor]
"""Sub-volumes (B, 1, d, h, w) float32 to logits (B, 3, d, h, w)."""
Normalise = Callable[[Any], FloatArray]
"""Some slices (d, y, x) of the image to what the network expects, float32."""
Region = tuple[slice, slice, slice]

_CPU = torch.device("cpu")
_AXES: Final = {"z": 2, "y": 3, "x": 4}
_GAUSSIAN_WIDTH: Final = 0.125
"""Standard deviation of the Gaussian weight in lengths of the sub-volume (Isensee et al., nnU-Net, 2021)."""
_LEAST_WEIGHT: Final = 1e-3
"""Of the peak: so that corners which one sub-volume alone covers are not lost to rounding."""


@dataclass(frozen=True, eq=False)
class Stitched:
    """What the sub-volumes agreed on."""

    labels: LabelArray
    """The vote, (z, y, x)."""
    probability: FloatArray
    """(3, z, y, x): mean softmax of the covering sub-volumes, arranged so that its argmax is the vote."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Slices of an ROI whose vote is settled."""

    first: int
    """The first of them."""
    stitched: Stitched
    """Of these slices alone."""


def tile_starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """First voxels of the tiles along one axis.

    The stride is regular, but for the last tile, which is shifted back to end exactly at the edge. An axis
    that is no longer than a tile has one tile, at 0, as short as the axis. Needs `stride` ≤ `tile`, else
    voxels are left out.
    """
    last = max(0, length - tile)
    return (*range(0, last, stride), last)


def stitch(
    forwards: Sequence[Forward],
    image: NDArray[Any],
    config: StitchConfig,
    *,
    normalise: Normalise = np.asarray,
    batches: BatchSizer | None = None,
    device: torch.device = _CPU,
) -> Stitched:
    """Run each of `forwards` over the overlapping sub-volumes of an ROI and let all of them vote in one ballot.

    Arguments and errors are those of `stitch_slabs`, whose slabs are joined here.
    """
    labels = np.empty(image.shape, np.uint8)
    probability = np.empty((NUM_CLASSES, *image.shape), np.float32)
    for slab in stitch_slabs(forwards, image, config, normalise=normalise, batches=batches, device=device):
        span = slice(slab.first, slab.first + len(slab.stitched.labels))
        labels[span], probability[:, span] = slab.stitched.labels, slab.stitched.probability
    return Stitched(labels, probability)


@torch.inference_mode()
def stitch_slabs(
    forwards: Sequence[Forward],
    image: NDArray[Any],
    config: StitchConfig,
    *,
    normalise: Normalise = np.asarray,
    batches: BatchSizer | None = None,
    device: torch.device = _CPU,
) -> Iterator[Slab]:
    """The ROI from its first slice to its last, each slab as soon as all sub-volumes that cover it have voted.

    Args:
        forwards: one or more of (B, 1, d, h, w) float32 on `device` to logits (B, 3, d, h, w) of any float type.
        image: (z, y, x), read a sub-volume at a time: it may be mapped from a file. Where it is shorter than a
            sub-volume, sub-volumes are as short as it is.
        config: size and step of the sub-volumes, in voxels (z, y, x), and how they are combined.
        normalise: makes the network's intensities of some slices of `image`.
        batches: how many sub-volumes go at once, one by one without; the result does not depend on it if
            `forwards` treat each alone.
        device: where sub-volumes and sums live: some tens of bytes a voxel of a sub-volume, however long the ROI is
            and however many members there are.

    Raises:
        InputError: a network gave a probability that is not finite.
    """
    sizer = batches or BatchSizer(device)
    tiling = _Tiling.of(image.shape, config)
    window = _Window(tiling, len(forwards), config, device)
    at = 0
    while at < len(tiling.regions):
        regions = tiling.regions[at : at + sizer.size]
        tiles = _read(image, regions, normalise, device)
        for forward in forwards:
            for region, probability in zip(regions, _probabilities(forward, tiles, config, sizer), strict=True):
                window.cast(region, probability)
        at += len(regions)
        settled = tiling.regions[at][0].start if at < len(tiling.regions) else image.shape[0]
        if settled > window.first:
            yield window.release(settled)


def _read(image: NDArray[Any], regions: Sequence[Region], normalise: Normalise, device: torch.device) -> Tensor:
    """Sub-volumes (B, 1, d, h, w); slices that several of them share are normalised once."""
    first, last = regions[0][0].start, regions[-1][0].stop
    slices = np.ascontiguousarray(normalise(image[first:last]), dtype=np.float32)
    voxels = torch.from_numpy(slices).to(device)
    return torch.stack([voxels[z.start - first : z.stop - first, y, x] for z, y, x in regions])[:, None]


def _probabilities(forward: Forward, tiles: Tensor, config: StitchConfig, sizer: BatchSizer) -> Iterator[Tensor]:
    """Class probabilities (3, d, h, w) of each sub-volume, the mean over its mirror images where asked for."""
    axes = [_AXES[axis] for axis in config.mirror]
    flips = [list(some) for some in chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))]
    total = reduce(Tensor.add_, (_softmax(sizer.run(forward, tiles.flip(flip))).flip(flip) for flip in flips))
    yield from total.div_(len(flips))


def _softmax(logits: Tensor) -> Tensor:
    """In float32, class by class in memory, which all that follows is fastest in."""
    return logits.float().contiguous().softmax(dim=1)


@dataclass(frozen=True, eq=False)
class _Tiling:
    """Where the sub-volumes lie, in the order in which they pass, and what they weigh."""

    regions: list[Region]
    shape: tuple[int, ...]
    """Of the ROI (z, y, x)."""
    weight: list[Tensor]
    """Of the voxels of a sub-volume along each axis; their product is a voxel's weight."""
    cover: list[Tensor]
    """Weights that all sub-volumes give to the voxels of the ROI along each axis, likewise."""

    @classmethod
    def of(cls, shape: tuple[int, ...], config: StitchConfig) -> "_Tiling":
        sizes = [min(tile, length) for tile, length in zip(config.tile, shape, strict=True)]
        axes = list(zip(shape, sizes, config.stride, strict=True))
        z, y, x = ([slice(at, at + size) for at in tile_starts(length, size, step)] for length, size, step in axes)
        weights = [_gaussian(size) if config.combine == "gaussian" else torch.ones(size) for size in sizes]
        covers = [_cover(*axis) for axis in zip(shape, (z, y, x), weights, strict=True)]
        return cls(list(product(z, y, x)), shape, weights, covers)

    @property
    def most_votes(self) -> int:
        """Sub-volumes that cover the voxel which most of them do."""
        return int(math.prod(float(cover.max()) for cover in self.cover))


def _gaussian(size: int) -> Tensor:
    """Weights of a sub-volume's voxels along an axis, 1 at its middle."""
    distance = torch.arange(size) - (size - 1) / 2
    return torch.exp(-0.5 * (distance / (_GAUSSIAN_WIDTH * size)) ** 2).clamp_min(_LEAST_WEIGHT)


def _cover(length: int, spans: list[slice], weight: Tensor) -> Tensor:
    total = torch.zeros(length)
    for span in spans:
        total[span] += weight
    return total


def _outer(z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return z[:, None, None] * y[:, None] * x


class _Window:
    """Votes and probabilities of the slices that have some and are not settled yet."""

    def __init__(self, tiling: _Tiling, num_members: int, config: StitchConfig, device: torch.device) -> None:
        self.first = 0
        """The first slice that is not settled."""
        self._tiling, self._device = tiling, device
        self._is_vote = config.combine == "vote"
        self._weight = _outer(*tiling.weight).to(device) if config.combine == "gaussian" else None
        self._cover = [cover.to(device) for cover in tiling.cover]
        self._num_members = num_members
        self._sums = self._empty(0, torch.float32)
        self._votes = self._empty(0, torch.uint8 if tiling.most_votes * num_members < 256 else torch.int32)

    def cast(self, region: Region, probability: Tensor) -> None:
        """Add what a sub-volume says, (3, d, h, w)."""
        self._reach(region[0].stop)
        z, y, x = region
        here = (slice(z.start - self.first, z.stop - self.first), y, x)
        if self._is_vote:
            vote = _first_argmax(probability)
            for label in range(NUM_CLASSES):
                self._votes[(label, *here)] += vote == label
        self._sums[(slice(None), *here)] += probability if self._weight is None else probability * self._weight

    def release(self, until: int) -> Slab:
        """Settle the slices before `until` and let them go."""
        first, depth = self.first, until - self.first
        sums = self._sums[:, :depth]
        self._require_finite(sums)
        z, y, x = self._cover
        mean = sums / (_outer(z[first:until], y, x) * self._num_members)
        if self._is_vote:
            labels = _settle(self._votes[:, :depth], sums)
            mean = _arranged(mean, labels)
        else:
            labels = _first_argmax(mean)
        self.first, self._sums, self._votes = until, self._sums[:, depth:], self._votes[:, depth:]
        return Slab(first, Stitched(labels.cpu().numpy(), mean.cpu().numpy()))

    def _reach(self, end: int) -> None:
        """Have room up to the slice before `end`, without what is settled."""
        missing = end - self.first - self._sums.shape[1]
        if missing > 0:
            self._sums, self._votes = (
                torch.cat([kept, self._empty(missing, kept.dtype)], dim=1) for kept in (self._sums, self._votes)
            )

    def _empty(self, depth: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros((NUM_CLASSES, depth, *self._tiling.shape[1:]), dtype=dtype, device=self._device)

    def _require_finite(self, sums: Tensor) -> None:
        if bool(sums.sum().isfinite()):
            return
        num_bad, last = int((~sums.isfinite()).any(dim=0).sum()), self.first + sums.shape[1] - 1
        raise InputError(
            f"the network's probabilities are not finite in {num_bad} of {sums[0].numel()} voxels of slices "
            f"{self.first} to {last}; its weights have diverged or the image is not finite: use another checkpoint or "
            "mend the image"
        )


def _first_argmax(values: Tensor) -> Tensor:
    """Argmax of (3, z, y, x) over classes as uint8, the lower label among equals.

    On the CPU this takes a fraction of the time of `Tensor.argmax` over a leading axis of three.
    """
    best, labels = values[0], torch.zeros_like(values[0], dtype=torch.uint8)
    for label in range(1, NUM_CLASSES):
        labels.masked_fill_(values[label] > best, label)
        best = torch.maximum(best, values[label])
    return labels


def _settle(votes: Tensor, sums: Tensor) -> Tensor:
    """The class of most votes; among equals that of the larger sum; among equals again the lower label."""
    return _first_argmax(sums.masked_fill(votes < votes.amax(dim=0), -1.0))


def _arranged(mean: Tensor, labels: Tensor) -> Tensor:
    """`mean` (3, z, y, x) with the values of the voted and the most probable class exchanged.

    Where another class equals it the voted one is raised by one unit in the last place, so that no argmax
    can end elsewhere.
    """
    classes = torch.arange(NUM_CLASSES, device=mean.device)[:, None, None, None]
    is_voted, highest = labels == classes, mean.amax(dim=0)
    voted = (mean * is_voted).sum(dim=0)
    exchanged = torch.where(is_voted, highest, torch.where(_first_argmax(mean) == classes, voted, mean))
    is_tied = (exchanged == highest).sum(dim=0) > 1
    above = highest.nextafter(torch.full_like(highest, 2.0))
    return torch.where(is_voted & is_tied, above, exchanged)
