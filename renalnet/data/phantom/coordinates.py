"""Coordinates of voxels in one body: mm from its centre, slightly bent so that no organ has a geometric shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.types import FloatArray, MaskArray, Shape, Triple

Region = tuple[slice, slice, slice]
"""A box of voxels (z, y, x)."""

BEND_MM = 3.5
"""Standard deviation of the bend."""
BEND_SCALE_MM = 42.0
"""Length over which the bend changes."""


@dataclass(frozen=True)
class BodyCoordinates:
    """Coordinates of each voxel in mm from the body's centre; x grows to the patient's left, y to the back, z to the
    head."""

    z: FloatArray
    """Coordinates along z, shape (Z, 1, 1), not bent."""
    y: FloatArray
    """Bent coordinates along y, shape (Z, Y, X)."""
    x: FloatArray
    """Bent coordinates along x, shape (Z, Y, X)."""
    spacing_mm: Triple

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        shape: Shape,
        spacing_mm: Triple,
        first_mm: Triple,
        size: Triple = (1.0, 1.0, 1.0),
    ) -> Self:
        """Draw the bend on a grid whose first voxel is at `first_mm` from the body's centre.

        `size` are factors of the body's size: coordinates of a large body are those of a body of the usual size.
        """
        steps = zip(shape, spacing_mm, first_mm, size, strict=True)
        z, y, x = ((np.arange(n, dtype=np.float32) * spacing + first) / factor for n, spacing, first, factor in steps)
        bend_y, bend_x = (BEND_MM * smooth_field(rng, shape, spacing_mm, BEND_SCALE_MM) for _ in "yx")
        bend_y += y[None, :, None]
        bend_x += x[None, None, :]
        return cls(z[:, None, None], bend_y, bend_x, spacing_mm)

    @property
    def shape(self) -> Shape:
        """Number of voxels (z, y, x)."""
        depth, height, width = self.x.shape
        return depth, height, width

    def around(self, centre_mm: Triple, reach_mm: Triple) -> Region:
        """Return the box of voxels within `reach_mm` of a point along each axis, widened by the bend."""
        # The bend averages out over a plane, so the means are nearly the straight axes.
        lines = (self.z[:, 0, 0], self.y.mean(axis=(0, 2)), self.x.mean(axis=(0, 1)))
        bounds = []
        for line, centre, reach in zip(lines, centre_mm, reach_mm, strict=True):
            # Twice the standard deviation of the bend, which few voxels exceed.
            low, high = np.searchsorted(line, [centre - reach - 2 * BEND_MM, centre + reach + 2 * BEND_MM])
            bounds.append(slice(int(low), int(high)))
        return bounds[0], bounds[1], bounds[2]

    def offsets(self, region: Region, centre_mm: Triple) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the distances (z, y, x) in mm of the voxels of a box from a point."""
        return self.z[region[0]] - centre_mm[0], self.y[region] - centre_mm[1], self.x[region] - centre_mm[2]

    def ellipsoid(self, centre_mm: Triple, radii_mm: Triple) -> tuple[Region, MaskArray]:
        """Return the box of an upright ellipsoid, and its mask in the box."""
        region = self.around(centre_mm, radii_mm)
        z, y, x = self.offsets(region, centre_mm)
        squared = (z / radii_mm[0]) ** 2 + (y / radii_mm[1]) ** 2 + (x / radii_mm[2]) ** 2
        return region, np.asarray(squared < 1)

    def tube(self, start_mm: Triple, end_mm: Triple, radius_mm: float) -> tuple[Region, MaskArray]:
        """Return the box of a straight tube between two points, and its mask in the box."""
        start = np.array(start_mm)
        end = np.array(end_mm)
        middle = (start + end) / 2
        reach = np.abs(end - start) / 2 + radius_mm
        region = self.around((middle[0], middle[1], middle[2]), (reach[0], reach[1], reach[2]))
        offsets = self.offsets(region, start_mm)
        # As the offsets; float64 would double the memory of every product.
        along = (end - start).astype(np.float32)
        share = sum(o * a for o, a in zip(offsets, along, strict=True)) / float(along @ along)
        # Without clipping the tube would not end at its two points.
        share = np.clip(share, 0, 1)
        squared = sum((o - share * a) ** 2 for o, a in zip(offsets, along, strict=True))
        return region, np.asarray(squared < radius_mm**2)


def ball_around(shape: tuple[int, ...], centre: Sequence[np.intp], spacing_mm: Triple, radius_mm: float) -> MaskArray:
    """Return the mask (z, y, x) of a ball around a voxel; it holds at least this voxel."""
    squared = np.zeros(shape, np.float32)
    for axis, (at, spacing) in enumerate(zip(centre, spacing_mm, strict=True)):
        along = (np.arange(shape[axis]) - int(at)) * spacing
        squared += np.square(along, dtype=np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(squared <= radius_mm**2)
