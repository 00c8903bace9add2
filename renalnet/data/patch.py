"""Where a crop lies: the only thing that the sampler and the loader share."""

from dataclasses import dataclass

import numpy as np

from renalnet.types import IGNORE_LABEL, HuArray, LabelArray, Shape


@dataclass(frozen=True)
class PatchLocation:
    """A box of voxels in a ROI; it may stick out of the ROI, whose outside is padded."""

    case: int
    """Index of the ROI."""
    start: Shape
    """First voxel (z, y, x); negative where the box begins before the ROI."""
    shape: Shape
    """Voxels (z, y, x)."""


def crop(image: HuArray, label: LabelArray, location: PatchLocation, fill_hu: int) -> tuple[HuArray, LabelArray]:
    """The voxels of a location, (z, y, x); outside the ROI `fill_hu` and `IGNORE_LABEL`."""
    inside, placed = _overlap(image.shape, location)
    if all(part.stop - part.start == size for part, size in zip(placed, location.shape, strict=True)):
        return image[inside], label[inside]
    padded_image = np.full(location.shape, fill_hu, image.dtype)
    padded_label = np.full(location.shape, IGNORE_LABEL, label.dtype)
    padded_image[placed], padded_label[placed] = image[inside], label[inside]
    return padded_image, padded_label


def _overlap(shape: tuple[int, ...], location: PatchLocation) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    inside, placed = [], []
    for length, start, size in zip(shape, location.start, location.shape, strict=True):
        low, high = max(start, 0), min(start + size, length)
        inside.append(slice(low, high))
        placed.append(slice(low - start, high - start))
    return tuple(inside), tuple(placed)
