"""The location of a crop, which is all that the sampler and the loader share."""

from dataclasses import dataclass

import numpy as np

from renalnet.types import HuArray, LabelArray, Shape


@dataclass(frozen=True)
class CropLocation:
    """A box of voxels in an ROI; it may extend beyond the ROI, where a crop is padded."""

    case: int
    """Number of the case."""
    start: Shape
    """First voxel (z, y, x); negative where the box begins before the ROI."""
    shape: Shape
    """Size in voxels (z, y, x)."""


def crop_into(out: HuArray | LabelArray, roi: HuArray | LabelArray, location: CropLocation, fill: int) -> None:
    """Write the voxels of a location into `out`, with `fill` outside the ROI.

    Args:
        out: array of the location's shape, with any strides.
        roi: image or label (z, y, x) of the whole ROI.
        location: box to copy.
        fill: value of the padding.
    """
    inside, placed = _overlap(roi.shape, location)
    # Most crops lie inside of their ROI, and are written only once.
    if any(part.stop - part.start < size for part, size in zip(placed, location.shape, strict=True)):
        out.fill(fill)
    np.copyto(out[placed], roi[inside])


def _overlap(shape: tuple[int, ...], location: CropLocation) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a location inside an ROI: slices of the ROI, and slices of the crop."""
    inside = []
    placed = []
    for length, start, size in zip(shape, location.start, location.shape, strict=True):
        low = max(start, 0)
        high = min(start + size, length)
        inside.append(slice(low, high))
        placed.append(slice(low - start, high - start))
    return tuple(inside), tuple(placed)
