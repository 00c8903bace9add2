"""Left and right kidney: assignment of labelled voxels, bounding boxes, and the side with the tumor."""

from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.data.images.resampling import triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import MaskArray, Triple

Side: TypeAlias = Literal["left", "right"]
SIDES: Final[tuple[Side, ...]] = ("left", "right")
SIDE_VALUES: Final[dict[Side, int]] = {"left": 1, "right": 2}
"""Values of the patient's left and right in arrays of sides. 0 is neither."""

BODY_HU: Final = -300
"""CT number between those of air and lung and those of fat (about -100)."""
_TWO_KIDNEYS_APART_MM: Final = 40.0
"""Smallest left-right distance between the centroids of two components that count as two kidneys."""
_KIDNEY_SHARE: Final = 0.1
"""Smallest share of the labelled voxels in a component that counts as a kidney, and not as a fragment."""
_BODY_COLUMN_SHARE: Final = 0.1
"""Smallest share of body voxels in a sagittal plane that counts as body, and not as the table."""
_ANY_CONTACT: Final = np.ones((3, 3, 3), bool)
"""Neighbourhood of a voxel across faces, edges and corners."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in LPS mm, (z, y, x). It extends to the outer edges of its voxels."""

    low_mm: Triple
    high_mm: Triple

    @classmethod
    def around(cls, mask: MaskArray, grid: Grid) -> Self | None:
        """Return the box of a mask's voxels on an axis-aligned grid, or None for an empty mask."""
        slices = _bounds(mask)
        if slices is None:
            return None
        spacing = np.array(grid.spacing_mm)
        origin = np.array(grid.origin_mm)
        low = np.array([part.start for part in slices])
        high = np.array([part.stop for part in slices])
        return cls(triple_of(origin + (low - 0.5) * spacing), triple_of(origin + (high - 0.5) * spacing))

    @property
    def size_mm(self) -> Triple:
        """Edge lengths (z, y, x)."""
        return triple_of(np.subtract(self.high_mm, self.low_mm))

    @property
    def centre_mm(self) -> Triple:
        """Centre (z, y, x)."""
        return triple_of(np.add(self.low_mm, self.high_mm) / 2)

    def grown(self, margin_mm: float) -> "Box":
        """Return the box with a margin on each face."""
        return Box(triple_of(np.subtract(self.low_mm, margin_mm)), triple_of(np.add(self.high_mm, margin_mm)))

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that contains both."""
        low = np.minimum(self.low_mm, other.low_mm)
        high = np.maximum(self.high_mm, other.high_mm)
        return Box(triple_of(low), triple_of(high))

    def holds(self, other: "Box") -> bool:
        """Whether the other box is inside this one, up to rounding."""
        tolerance_mm = 1e-3
        below = np.subtract(other.low_mm, self.low_mm) >= -tolerance_mm
        above = np.subtract(self.high_mm, other.high_mm) >= -tolerance_mm
        return bool(below.all() and above.all())

    def holds_centre_of(self, other: "Box") -> bool:
        """Whether the centre of the other box is inside this one."""
        centre = np.array(other.centre_mm)
        return bool((centre >= self.low_mm).all() and (centre <= self.high_mm).all())

    def share_of(self, mask: MaskArray, grid: Grid) -> float:
        """Return the share of a mask's voxels with their centre in the box, 0 to 1. It is 0 for an empty mask."""
        lines = [
            np.arange(size) * step + first
            for size, step, first in zip(grid.shape, grid.spacing_mm, grid.origin_mm, strict=True)
        ]
        inside = [
            slice(*np.searchsorted(line, [low, high]))
            for line, low, high in zip(lines, self.low_mm, self.high_mm, strict=True)
        ]
        total = np.count_nonzero(mask)
        return np.count_nonzero(mask[tuple(inside)]) / total if total else 0.0


def split_sides(label: Volume, image: Volume) -> NDArray[np.uint8]:
    """Assign each labelled voxel to the left or the right kidney.

    Voxels that touch across faces, edges or corners form a component. A component belongs to the side of the midline
    on which its centroid is. A tumor therefore has the side of the kidney that it touches. The midline is halfway
    between two large components that are as far apart as kidneys, otherwise in the middle of the body.

    Args:
        label: canonical label map.
        image: canonical scan on the same grid.

    Returns:
        Values of `SIDE_VALUES`: 0 none, 1 left, 2 right; uint8 (z, y, x). An empty label map gives zeros.
    """
    sides = np.zeros(label.array.shape, np.uint8)
    bounds = _bounds(label.array > 0)
    if bounds is None:
        return sides
    # Labelling only the bounding box saves most of the time in a large scan.
    components, count = ndimage.label(label.array[bounds] > 0, structure=_ANY_CONTACT)
    numbers = np.arange(count + 1)
    voxels = np.bincount(components.ravel(), minlength=count + 1)
    # Only x decides the side; `ndimage.center_of_mass` would also compute z and y.
    columns = np.broadcast_to(np.arange(components.shape[2], dtype=np.float64), components.shape)
    middle = ndimage.mean(columns, components, numbers[1:]) + bounds[2].start
    x_mm = label.grid.origin_mm[2] + np.asarray(middle) * label.grid.spacing_mm[2]
    is_left = x_mm > _midline_mm(x_mm, voxels[1:], image)  # in LPS, x grows towards the patient's left
    lookup = np.zeros(count + 1, np.uint8)
    lookup[1:] = np.where(is_left, SIDE_VALUES["left"], SIDE_VALUES["right"])
    sides[bounds] = lookup[components]
    return sides


def lesioned_side(tumor: MaskArray, sides: NDArray[np.uint8], choice: np.random.Generator) -> Side:
    """Return the side with most tumor voxels, or one of the labelled sides, drawn by `choice`, without a tumor."""
    voxels = np.bincount(sides[tumor], minlength=3)
    labelled = [side for side in SIDES if (sides == SIDE_VALUES[side]).any()]
    if voxels[1:].any():
        return max(SIDES, key=lambda side: voxels[SIDE_VALUES[side]])
    return labelled[int(choice.integers(len(labelled)))]


def body_width_mm(image: Volume) -> float:
    """Return the left-right width of the body, or the width of the image if it shows no body."""
    first, last = _body_columns(image)
    return float(last - first + 1) * image.grid.spacing_mm[2]


def _midline_mm(x_mm: NDArray[np.float64], voxels: NDArray[np.int64], image: Volume) -> float:
    kidneys = x_mm[voxels >= _KIDNEY_SHARE * voxels.sum()]
    # The body's middle is unreliable if a scan is cropped or off-centre, so two kidneys take precedence.
    if len(kidneys) and np.ptp(kidneys) > _TWO_KIDNEYS_APART_MM:  # many small pieces: none is a kidney
        return float((kidneys.min() + kidneys.max()) / 2)
    columns = _body_columns(image)
    return float(image.grid.origin_mm[2] + columns.mean() * image.grid.spacing_mm[2])


def _body_columns(image: Volume) -> NDArray[np.int64]:
    """Return the first and the last index of the body along x, or those of the image if it shows no body."""
    sparse = image.array[::4, ::4]  # the mean over a sixteenth of the voxels is exact enough
    columns = np.flatnonzero((sparse > BODY_HU).mean(axis=(0, 1)) > _BODY_COLUMN_SHARE)
    return columns[[0, -1]] if len(columns) else np.array([0, image.array.shape[2] - 1])


def _bounds(mask: MaskArray) -> tuple[slice, slice, slice] | None:
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not len(filled):
            return None
        bounds.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return bounds[0], bounds[1], bounds[2]
