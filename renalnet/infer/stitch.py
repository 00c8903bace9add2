"""Overlapping sub-volumes through a network, settled by majority vote (Yang et al., ICPR 2018, II.B).

A voxel gets one vote from each sub-volume that covers it. The paper does not say how ties end; here they go
to the tied class of larger summed probability (reconstruction). A mean of probabilities alone would not be
a vote: one very sure sub-volume could overrule two mildly sure ones.

An ensemble's networks vote in one ballot: each gives its own votes for its sub-volumes, and all are counted together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from renalnet.config import StitchConfig
from renalnet.errors import InputError
from renalnet.types import NUM_CLASSES, FloatArray, LabelArray

Forward = Callable[[Tensor], Tensor]
"""Sub-volumes (B, 1, d, h, w) float32 to logits (B, 3, d, h, w)."""
Region = tuple[slice, slice, slice]

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Stitched:
    """What the sub-volumes agreed on."""

    labels: LabelArray
    """The vote, (z, y, x)."""
    probability: FloatArray
    """(3, z, y, x): mean softmax of the covering sub-volumes, arranged so that its argmax is the vote."""


def tile_starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """First voxels of the tiles along one axis.

    The stride is regular, but for the last tile, which is shifted back to end exactly at the edge. An axis
    that is no longer than a tile has one tile, at 0, as short as the axis. Needs `stride` ≤ `tile`, else
    voxels are left out.
    """
    last = max(0, length - tile)
    return (*range(0, last, stride), last)


def stitch(
    forward: Forward,
    image: FloatArray,
    config: StitchConfig,
    *,
    batch_size: int = 1,
    device: torch.device = _CPU,
) -> Stitched:
    """Run `forward` over the overlapping sub-volumes of an ROI and let them vote: `stitch_all` of one."""
    return stitch_all([forward], image, config, batch_size=batch_size, device=device)


@torch.inference_mode()
def stitch_all(
    forwards: Sequence[Forward],
    image: FloatArray,
    config: StitchConfig,
    *,
    batch_size: int = 1,
    device: torch.device = _CPU,
) -> Stitched:
    """Run each of `forwards` over the overlapping sub-volumes of an ROI and let all of them vote in one ballot.

    Args:
        forwards: one or more of (B, 1, d, h, w) float32 on `device` to logits (B, 3, d, h, w) of any float type.
        image: normalised intensities (z, y, x). Where it is shorter than a tile, tiles are as short as it is.
        config: size and step of the sub-volumes, in voxels (z, y, x).
        batch_size: most sub-volumes at once; the result does not depend on it if `forwards` treat each alone.
        device: where sub-volumes and sums live: some tens of bytes a voxel, however many sub-volumes and
            members there are.

    Raises:
        InputError: a network gave a probability that is not finite.
    """
    voxels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(device)
    tiling = _tiling(image.shape, config)
    most_votes = int(tiling.cover.max()) * len(forwards)
    votes = torch.zeros((NUM_CLASSES, *voxels.shape), dtype=_vote_type(most_votes), device=device)
    sums = torch.zeros((NUM_CLASSES, *voxels.shape), dtype=torch.float32, device=device)
    for forward, first in product(forwards, range(0, len(tiling.regions), batch_size)):
        regions = tiling.regions[first : first + batch_size]
        logits = forward(torch.stack([voxels[region] for region in regions])[:, None])
        for region, probability in zip(regions, logits.float().softmax(dim=1), strict=True):
            _cast(votes, sums, region, probability)
    _require_finite(sums)
    labels = _settle(votes, sums)
    sums /= (tiling.cover * len(forwards)).to(device)
    return Stitched(labels.cpu().numpy(), _arranged(sums, labels).cpu().numpy())


@dataclass(frozen=True, eq=False)
class _Tiling:
    regions: list[Region]
    cover: Tensor
    """Tiles that cover each voxel (z, y, x)."""


def _vote_type(most_votes: int) -> torch.dtype:
    return torch.uint8 if most_votes < 256 else torch.int32


def _tiling(shape: tuple[int, ...], config: StitchConfig) -> _Tiling:
    sizes = [min(tile, length) for tile, length in zip(config.tile, shape, strict=True)]
    axes = list(zip(shape, sizes, config.stride, strict=True))
    spans = [[slice(at, at + size) for at in tile_starts(length, size, step)] for length, size, step in axes]
    counts = [_cover(length, along) for length, along in zip(shape, spans, strict=True)]
    cover = counts[0][:, None, None] * counts[1][None, :, None] * counts[2][None, None, :]
    return _Tiling([(z, y, x) for z, y, x in product(*spans)], cover)


def _cover(length: int, spans: list[slice]) -> Tensor:
    count = torch.zeros(length, dtype=torch.int32)
    for span in spans:
        count[span] += 1
    return count


def _cast(votes: Tensor, sums: Tensor, region: Region, probability: Tensor) -> None:
    """Add one sub-volume's vote and probability (3, d, h, w), in place."""
    vote = _first_argmax(probability)
    for label in range(NUM_CLASSES):
        votes[(label, *region)] += vote == label
    sums[(slice(None), *region)] += probability


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


def _require_finite(sums: Tensor) -> None:
    num_bad = int((~sums.isfinite()).any(dim=0).sum())
    if num_bad:
        raise InputError(
            f"the network's probabilities are not finite in {num_bad} of {sums[0].numel()} voxels; its "
            "weights have diverged or the image is not finite: use another checkpoint or mend the image"
        )
