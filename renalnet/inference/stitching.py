"""Stitched inference: overlapping sub-volumes go through a network and vote (Yang et al., ICPR 2018, II.B).

A voxel gets one vote from each sub-volume that covers it. The paper does not state how ties are decided. Here the tied
class with the larger sum of probabilities is chosen (reconstruction). A mean of probabilities would not be a vote: one
very sure sub-volume could overrule two that are less sure.

The networks of an ensemble vote together: each network votes for each of its sub-volumes, and all votes are counted.

Sub-volumes are processed from the first slice to the last. A slice is decided after the last sub-volume that covers it
has voted, so the memory does not grow with the length of the ROI.
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
from renalnet.inference.backends.backend import Forward
from renalnet.inference.batch_size import BatchSizer
from renalnet.types import FloatArray, LabelArray, Shape

Normalise = Callable[[Any], FloatArray]
"""From some slices (d, y, x) of the image to the float32 intensities that the network expects."""
Region = tuple[slice, slice, slice]

_CPU = torch.device("cpu")
_AXES: Final = {"z": 2, "y": 3, "x": 4}
_GAUSSIAN_WIDTH: Final = 0.125
"""Standard deviation of the Gaussian weight, as a share of the sub-volume's length (Isensee et al., nnU-Net, 2021)."""
_LEAST_WEIGHT: Final = 1e-3
"""Least weight relative to the peak. Corners that only one sub-volume covers would otherwise be lost to rounding."""


@dataclass(frozen=True, eq=False)
class Stitched:
    """The vote over an ROI."""

    labels: LabelArray
    """Labels (z, y, x) by the vote."""
    probability: FloatArray
    """Class probabilities (C, z, y, x): mean softmax of the covering sub-volumes, arranged so that the argmax is the
    vote."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Consecutive slices of an ROI whose vote is decided."""

    first: int
    """Number of the first slice."""
    stitched: Stitched
    """Vote of these slices only."""


def sub_volume_starts(length: int, size: int, stride: int) -> tuple[int, ...]:
    """Return the first voxel of each sub-volume along one axis.

    The stride is regular, except that the last sub-volume is shifted back to end exactly at the edge. An axis that is
    not longer than a sub-volume has one sub-volume of the axis' own length, at 0.

    Args:
        length: voxels of the axis.
        size: voxels of a sub-volume.
        stride: voxels from one sub-volume to the next; at most `size`, or voxels would be left out.
    """
    last = max(0, length - size)
    return (*range(0, last, stride), last)


def num_sub_volumes(shape: Sequence[int], config: StitchConfig) -> int:
    """Return the number of sub-volumes of an ROI (z, y, x), without their mirror images."""
    axes = zip(shape, config.tile, config.stride, strict=True)
    return math.prod(len(sub_volume_starts(length, tile, step)) for length, tile, step in axes)


def stitch(
    forwards: Sequence[Forward],
    image: NDArray[Any],
    config: StitchConfig,
    *,
    num_classes: int,
    normalise: Normalise = np.asarray,
    batches: BatchSizer | None = None,
    device: torch.device = _CPU,
) -> Stitched:
    """Return the vote of the networks over the overlapping sub-volumes of an ROI.

    The arguments and errors are those of `stitch_slabs`, whose slabs are joined here.
    """
    # Not cleared, because the slabs together cover every slice.
    labels = np.empty(image.shape, np.uint8)
    probability = np.empty((num_classes, *image.shape), np.float32)
    for slab in stitch_slabs(
        forwards, image, config, num_classes=num_classes, normalise=normalise, batches=batches, device=device
    ):
        span = slice(slab.first, slab.first + len(slab.stitched.labels))
        labels[span] = slab.stitched.labels
        probability[:, span] = slab.stitched.probability
    return Stitched(labels, probability)


# As a decorator, PyTorch leaves the mode at each `yield`; a `with` inside would also hold for the caller's code.
@torch.inference_mode()
def stitch_slabs(
    forwards: Sequence[Forward],
    image: NDArray[Any],
    config: StitchConfig,
    *,
    num_classes: int,
    normalise: Normalise = np.asarray,
    batches: BatchSizer | None = None,
    device: torch.device = _CPU,
) -> Iterator[Slab]:
    """Yield the vote from the first slice to the last, each slab after all sub-volumes that cover it have voted.

    Args:
        forwards: one network or more, from (B, 1, d, h, w) float32 on `device` to logits (B, C, d, h, w) of any float
            type.
        image: array (z, y, x). It is read some slices at a time, so it may be mapped from a file. Along an axis where
            it is shorter than a sub-volume, the sub-volumes are as short as the image.
        config: size and stride of the sub-volumes, in voxels (z, y, x), and how they are combined.
        num_classes: number of classes C of the networks.
        normalise: gives the intensities that the networks expect for some slices of `image`.
        batches: number of sub-volumes in a batch; None for one. The result does not depend on it if `forwards` treat
            each sub-volume alone.
        device: device of sub-volumes and sums. They take some tens of bytes for each voxel of a sub-volume's slices,
            whatever the length of the ROI and the number of networks.

    Raises:
        InputError: a network gave a probability that is not finite.
    """
    sizer = batches or BatchSizer(device)
    layout = _Layout.of(image.shape, config)
    votes = _OpenSlices(layout, num_classes, len(forwards), config, device)
    at = 0
    while at < len(layout.regions):
        # The size is read again each time, because the first batch measures the memory and sets it.
        regions = layout.regions[at : at + sizer.size]
        sub_volumes = _read(image, regions, normalise, device)
        for forward in forwards:
            for region, probability in zip(regions, _probabilities(forward, sub_volumes, config, sizer), strict=True):
                votes.cast(region, probability)
        at += len(regions)
        # Sub-volumes are ordered by their first slice, so no further one covers the slices before the next one's first.
        decided = layout.regions[at][0].start if at < len(layout.regions) else image.shape[0]
        if decided > votes.first:
            yield votes.release(decided)


def _read(image: NDArray[Any], regions: Sequence[Region], normalise: Normalise, device: torch.device) -> Tensor:
    """Return the sub-volumes (B, 1, d, h, w). Slices that several of them share are normalised once."""
    first = regions[0][0].start
    last = regions[-1][0].stop
    slices = np.ascontiguousarray(normalise(image[first:last]), dtype=np.float32)
    voxels = torch.from_numpy(slices).to(device)
    return torch.stack([voxels[z.start - first : z.stop - first, y, x] for z, y, x in regions])[:, None]


def _probabilities(forward: Forward, sub_volumes: Tensor, config: StitchConfig, sizer: BatchSizer) -> Iterator[Tensor]:
    """Yield the class probabilities (C, d, h, w) of each sub-volume, averaged over its mirror images."""
    flips = mirror_flips(config)
    # Added in place, so that memory does not grow with the number of mirror images.
    total = reduce(Tensor.add_, (_softmax(sizer.run(forward, sub_volumes.flip(flip))).flip(flip) for flip in flips))
    yield from total.div_(len(flips))


def mirror_flips(config: StitchConfig) -> list[list[int]]:
    """Return the axes of a batch (B, C, D, H, W) to flip for each image of a sub-volume; none for itself, the first."""
    axes = [_AXES[axis] for axis in config.mirror]
    return [list(some) for some in chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))]


def _softmax(logits: Tensor) -> Tensor:
    """Return probabilities in float32, contiguous by class, the layout in which the vote is fastest."""
    return logits.float().contiguous().softmax(dim=1)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Places and weights of the sub-volumes of an ROI."""

    regions: list[Region]
    """Places of the sub-volumes, in the order in which they are processed."""
    shape: tuple[int, ...]
    """Shape of the ROI (z, y, x)."""
    weight: list[Tensor]
    """Weights of a sub-volume's voxels along each axis; a voxel's weight is their product."""
    cover: list[Tensor]
    """Sums of the weights of all sub-volumes over the ROI's voxels along each axis; to be multiplied likewise."""

    @classmethod
    def of(cls, shape: tuple[int, ...], config: StitchConfig) -> "_Layout":
        sizes = [min(tile, length) for tile, length in zip(config.tile, shape, strict=True)]
        axes = zip(shape, sizes, config.stride, strict=True)
        z, y, x = (_spans(*axis) for axis in axes)
        weights = [_gaussian(size) if config.combine == "gaussian" else torch.ones(size) for size in sizes]
        # Regions are all combinations of the axes' spans, so the sum over them is the product of sums along the axes.
        covers = [_cover(*axis) for axis in zip(shape, (z, y, x), weights, strict=True)]
        return cls(list(product(z, y, x)), shape, weights, covers)

    @property
    def most_votes(self) -> int:
        """Highest number of sub-volumes that cover the same voxel."""
        # Weights of 1 make this a count; with other weights no votes are cast.
        return int(math.prod(float(cover.max()) for cover in self.cover))


def _spans(length: int, size: int, stride: int) -> list[slice]:
    return [slice(at, at + size) for at in sub_volume_starts(length, size, stride)]


def _gaussian(size: int) -> Tensor:
    """Return the weights of a sub-volume's voxels along an axis, 1 at its centre."""
    distance = torch.arange(size) - (size - 1) / 2
    return torch.exp(-0.5 * (distance / (_GAUSSIAN_WIDTH * size)) ** 2).clamp_min(_LEAST_WEIGHT)


def gaussian_weight(shape: Shape) -> Tensor:
    """Return the weights of the voxels of a sub-volume, (z, y, x), near 1 at its centre."""
    return _outer(*map(_gaussian, shape))


def _cover(length: int, spans: list[slice], weight: Tensor) -> Tensor:
    total = torch.zeros(length)
    for span in spans:
        total[span] += weight
    return total


def _outer(z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return z[:, None, None] * y[:, None] * x


class _OpenSlices:
    """Votes and sums of probabilities of the slices that are not decided yet."""

    def __init__(
        self, layout: _Layout, num_classes: int, num_members: int, config: StitchConfig, device: torch.device
    ) -> None:
        self.first = 0
        """Number of the first slice that is not decided."""
        self._layout = layout
        self._device = device
        self._is_vote = config.combine == "vote"
        self._weight = _outer(*layout.weight).to(device) if config.combine == "gaussian" else None
        self._cover = [cover.to(device) for cover in layout.cover]
        self._num_classes = num_classes
        self._num_members = num_members
        self._sums = self._empty(0, torch.float32)
        # Bytes take a quarter of the memory and suffice unless a voxel can get more than 255 votes.
        self._votes = self._empty(0, torch.uint8 if layout.most_votes * num_members < 256 else torch.int32)

    def cast(self, region: Region, probability: Tensor) -> None:
        """Add the votes and probabilities (C, d, h, w) of a sub-volume."""
        self._reach(region[0].stop)
        z, y, x = region
        here = (slice(z.start - self.first, z.stop - self.first), y, x)
        if self._is_vote:
            vote = _first_argmax(probability)
            for label in range(len(self._votes)):
                self._votes[(label, *here)] += vote == label
        self._sums[(slice(None), *here)] += probability if self._weight is None else probability * self._weight

    def release(self, until: int) -> Slab:
        """Decide the slices before `until`, return them and free their memory."""
        first = self.first
        depth = until - first
        sums = self._sums[:, :depth]
        self._require_finite(sums)
        z, y, x = self._cover
        mean = sums / (_outer(z[first:until], y, x) * self._num_members)
        if self._is_vote:
            labels = _decide(self._votes[:, :depth], sums)
            mean = _arranged(mean, labels)
        else:
            labels = _first_argmax(mean)
        self.first = until
        # Views; their memory is freed when `_reach` copies what is kept into larger tensors.
        self._sums = self._sums[:, depth:]
        self._votes = self._votes[:, depth:]
        return Slab(first, Stitched(labels.cpu().numpy(), mean.cpu().numpy()))

    def _reach(self, end: int) -> None:
        """Make room for the slices before `end`."""
        missing = end - self.first - self._sums.shape[1]
        if missing > 0:
            self._sums, self._votes = (
                torch.cat([kept, self._empty(missing, kept.dtype)], dim=1) for kept in (self._sums, self._votes)
            )

    def _empty(self, depth: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros((self._num_classes, depth, *self._layout.shape[1:]), dtype=dtype, device=self._device)

    def _require_finite(self, sums: Tensor) -> None:
        # The sum is finite only if every term is, and takes less time than a test of every voxel.
        if bool(sums.sum().isfinite()):
            return
        num_bad = int((~sums.isfinite()).any(dim=0).sum())
        last = self.first + sums.shape[1] - 1
        raise InputError(
            f"the network's probabilities are not finite in {num_bad} of {sums[0].numel()} voxels of slices "
            f"{self.first} to {last}; its weights have diverged or the image is not finite: use another model or "
            "repair the image"
        )


def _first_argmax(values: Tensor) -> Tensor:
    """Return the argmax of (C, z, y, x) over classes as uint8; the lower label among equals.

    On the CPU this takes a fraction of the time of `Tensor.argmax` over a leading axis of three.
    """
    best = values[0]
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for label in range(1, len(values)):
        labels.masked_fill_(values[label] > best, label)
        best = torch.maximum(best, values[label])
    return labels


def _decide(votes: Tensor, sums: Tensor) -> Tensor:
    """Return the class of most votes; among equals the one of the larger sum, then the lower label."""
    # Sums are not negative, so -1 excludes the classes with fewer votes.
    return _first_argmax(sums.masked_fill(votes < votes.amax(dim=0), -1.0))


def _arranged(mean: Tensor, labels: Tensor) -> Tensor:
    """Return `mean` (C, z, y, x) with the values of the voted and the most probable class exchanged.

    Where another class has the same value, that of the voted class is raised by one unit in the last place, so that
    every argmax gives the vote.
    """
    classes = torch.arange(len(mean), device=mean.device)[:, None, None, None]
    is_voted = labels == classes
    highest = mean.amax(dim=0)
    voted = (mean * is_voted).sum(dim=0)
    exchanged = torch.where(is_voted, highest, torch.where(_first_argmax(mean) == classes, voted, mean))
    is_tied = (exchanged == highest).sum(dim=0) > 1
    # Towards 2, which is above every probability.
    above = highest.nextafter(torch.full_like(highest, 2.0))
    return torch.where(is_voted & is_tied, above, exchanged)
