"""Where a crop lies: the only thing that the sampler and the loader share."""

from dataclasses import dataclass

import numpy as np

from renalnet.types import HuArray, LabelArray, Shape


@dataclass(frozen=True)
class CropLocation:
    """A box of voxels in a ROI; it may stick out of the ROI, whose outside is padded."""

    case: int
    """Index of the patient."""
    start: Shape
    """First voxel (z, y, x); negative where the box begins before the ROI."""
    shape: Shape
    """Voxels (z, y, x)."""


def crop_into(out: HuArray | LabelArray, roi: HuArray | LabelArray, location: CropLocation, fill: int) -> None:
    """Write the voxels of a location into `out` (of the location's shape, any strides); outside the ROI `fill`."""
    inside, placed = _overlap(roi.shape, location)
    if any(part.stop - part.start < size for part, size in zip(placed, location.shape, strict=True)):
        out.fill(fill)
    np.copyto(out[placed], roi[inside])


def _overlap(shape: tuple[int, ...], location: CropLocation) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    inside, placed = [], []
    for length, start, size in zip(shape, location.start, location.shape, strict=True):
        low, high = max(start, 0), min(start + size, length)
        inside.append(slice(low, high))
        placed.append(slice(low - start, high - start))
    return tuple(inside), tuple(placed)
