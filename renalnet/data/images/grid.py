"""The geometry of an image: its grid, the checks that every grid must pass, and the comparison of two grids."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Final, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.types import Shape, Triple

Each = TypeVar("Each")
Region: TypeAlias = tuple[slice, slice, slice]

IDENTITY: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID_TOLERANCE_MM: Final = 5e-2
"""Largest distance between two voxel centres that count as the same voxel. Headers store rounded numbers."""
OBLIQUE_TOLERANCE: Final = 1e-4
"""Largest deviation of a direction cosine from 0 or 1 in an axis-aligned grid."""
SHEAR_TOLERANCE: Final = 1e-3
"""Largest scalar product of two axes of a grid that still counts as a right angle."""
_EXACT_SHEAR: Final = 1e-6
"""Scalar product that single precision leaves of a right angle."""
MAX_VOXELS: Final = 2**31
"""Number of voxels of a scan of 1024×1024×2048. A header that states more voxels is damaged."""
SPACING_RANGE_MM: Final = (1e-3, 1e3)
MAX_ORIGIN_MM: Final = 1e6


def _require_numbers(grid: "Grid") -> None:
    """Refuse a grid from a file that has other fields than numbers, or other numbers than those of a volume."""
    lengths = [len(part) for part in (grid.size_xyz, grid.spacing_xyz_mm, grid.origin_xyz_mm, grid.direction)]
    # `isfinite` raises TypeError for text.
    is_finite = all(map(isfinite, (*grid.spacing_xyz_mm, *grid.origin_xyz_mm, *grid.direction)))
    is_size = all(type(size) is int and size > 0 for size in grid.size_xyz)
    if lengths != [3, 3, 3, 9] or not is_finite or not is_size:
        raise ValueError(f"{grid!s:.200} is no grid of a volume")
    if min(grid.spacing_xyz_mm) <= 0:
        raise ValueError(f"spacing {grid.spacing_xyz_mm} mm must be positive")


def voxel_ml(spacing_mm: Triple) -> float:
    """Return the volume of a voxel of this spacing, in millilitres (1 ml = 1000 mm³)."""
    return float(np.prod(spacing_mm)) / 1000.0


@dataclass(frozen=True)
class Grid:
    """Position, spacing and orientation of the voxels of an image, in ITK's convention: (x, y, z) and LPS mm."""

    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: Triple
    origin_xyz_mm: Triple
    """Centre of the first voxel."""
    direction: tuple[float, ...] = IDENTITY
    """Nine numbers, row by row. Column i is the direction of index axis i."""

    @classmethod
    def axis_aligned(cls, shape: Shape, spacing_mm: Triple, origin_mm: Triple = (0.0, 0.0, 0.0)) -> Self:
        """Return a grid of identity direction from (z, y, x) triples."""
        return cls(_reverse(shape), _reverse(spacing_mm), _reverse(origin_mm))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the grid that `to_json` wrote. Raises AttributeError, TypeError or ValueError for other values."""
        # JSON returns lists, which never compare equal to the tuples of another grid.
        grid = cls(**{name: tuple(value) for name, value in values.items()})
        _require_numbers(grid)
        return grid

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain lists. JSON keeps their values exactly."""
        return {name: list(value) for name, value in asdict(self).items()}

    @property
    def shape(self) -> Shape:
        """Size as (z, y, x)."""
        return _reverse(self.size_xyz)

    @property
    def spacing_mm(self) -> Triple:
        """Spacing as (z, y, x)."""
        return _reverse(self.spacing_xyz_mm)

    @property
    def origin_mm(self) -> Triple:
        """Centre of the first voxel as (z, y, x)."""
        return _reverse(self.origin_xyz_mm)

    @property
    def is_axis_aligned(self) -> bool:
        """Whether the direction is the identity, up to `OBLIQUE_TOLERANCE`."""
        return bool(np.allclose(self.direction, IDENTITY, atol=OBLIQUE_TOLERANCE))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return voxel_ml(self.spacing_xyz_mm)

    def region_of(self, other: "Grid") -> Region:
        """Return the slices (z, y, x) that hold all voxels within the extent of another grid; they may be empty."""
        ends = np.array(list(itertools.product(*([-0.5, size - 0.5] for size in other.size_xyz))))
        corners_mm = ends * other.spacing_xyz_mm @ _matrix(other).T + other.origin_xyz_mm
        index_xyz = (corners_mm - self.origin_xyz_mm) @ _matrix(self) / self.spacing_xyz_mm
        # One voxel more, for rounding.
        low = np.clip(np.floor(index_xyz.min(axis=0)).astype(int) - 1, 0, self.size_xyz)
        high = np.clip(np.ceil(index_xyz.max(axis=0)).astype(int) + 2, low, self.size_xyz)
        return _reverse((slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])))

    def part(self, region: Region) -> "Grid":
        """Return the grid of some of the voxels, given as slices (z, y, x) with both ends."""
        slices = region[::-1]
        first = np.array([part.start for part in slices])
        origin = self.origin_xyz_mm + _matrix(self) @ (first * self.spacing_xyz_mm)
        x, y, z = (int(part.stop - part.start) for part in slices)
        return replace(self, size_xyz=(x, y, z), origin_xyz_mm=_triple(origin))


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and its grid; `array.shape == grid.shape`."""

    array: NDArray[Any]
    grid: Grid


def grid_of_axes(
    where: object, size_xyz: Sequence[int], axes_mm: NDArray[np.float64], origin_xyz_mm: Sequence[float]
) -> Grid:
    """Return the grid of the given axes.

    Args:
        where: name of the file in error messages.
        size_xyz: number of voxels along each axis.
        axes_mm: (3, 3); column i is the vector from one voxel to the next along index axis i, in LPS mm.
        origin_xyz_mm: centre of the first voxel, in LPS mm.

    Raises:
        InputError: a number is not finite or is outside its allowed range, or the axes are not at right angles.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged header may contain any number; see the checks below
        spacing = np.linalg.norm(axes_mm, axis=0)
        # Checked before the division, which a spacing of 0 would turn into NaN.
        if not (np.isfinite(axes_mm).all() and (spacing >= SPACING_RANGE_MM[0]).all()):
            rule = f"must be finite and at least {SPACING_RANGE_MM[0]:g} mm; correct the header or export it again"
            raise InputError(f"{where}: voxel spacing {_format(spacing)} mm {rule}")
        direction = axes_mm / spacing
    _check_range(where, spacing, origin_xyz_mm)
    direction = _right_angled(where, direction)
    size = int(size_xyz[0]), int(size_xyz[1]), int(size_xyz[2])
    # Adding 0 turns -0 into 0, so that equal directions also compare and print as equal.
    flat = tuple(float(value) + 0.0 for value in direction.ravel())
    return Grid(size, _triple(spacing), _triple(origin_xyz_mm), flat)


def _check_range(where: object, spacing_mm: Sequence[float], origin_mm: Sequence[float]) -> None:
    low, high = SPACING_RANGE_MM
    # `not (low <= value)` is also true for NaN, where `value < low` would be false.
    if any(not low <= value <= high for value in spacing_mm):
        rule = f"is not within {low:g} to {high:g} mm; correct the header"
        raise InputError(f"{where}: voxel spacing {_format(spacing_mm)} mm {rule}")
    if any(not abs(value) <= MAX_ORIGIN_MM for value in origin_mm):
        rule = f"is not within ±{MAX_ORIGIN_MM:g} mm; correct the header"
        raise InputError(f"{where}: origin {_format(origin_mm)} mm {rule}")


def _right_angled(where: object, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions at right angles, turned as little as possible where they are off by rounding.

    ITK writes images only with axes at right angles, and many programs read no others.
    """
    skew = np.abs(direction.T @ direction - np.eye(3)).max()
    if skew > SHEAR_TOLERANCE:
        raise InputError(
            f"{where}: its axes are not at right angles (cosine {skew:.2g}, at most {SHEAR_TOLERANCE:g}); "
            "resample it to an unsheared grid"
        )
    if skew <= _EXACT_SHEAR:
        return direction
    left, _, right = np.linalg.svd(direction)
    return np.asarray(left @ right, np.float64)


def grid_difference(first: Grid, second: Grid, direction_error: float = 0.0) -> str | None:
    """Return a description of the first difference between two grids, or None.

    Two grids agree if no voxel of one is more than about `GRID_TOLERANCE_MM` from the same voxel of the other.
    `direction_error` is an angle in radians by which their directions may differ in addition.
    """
    if first.size_xyz != second.size_xyz:
        return f"size {_format(first.size_xyz)} against {_format(second.size_xyz)}"
    # An error of the spacing or the direction grows with the distance from the origin, up to the last voxel.
    size = np.array(first.size_xyz)
    limits = {
        "origin_xyz_mm": GRID_TOLERANCE_MM,
        "spacing_xyz_mm": GRID_TOLERANCE_MM / size.max(),
        "direction": GRID_TOLERANCE_MM / (size * first.spacing_xyz_mm).max() + direction_error,
    }
    for name, limit in limits.items():
        one = getattr(first, name)
        other = getattr(second, name)
        if not np.allclose(one, other, atol=limit, rtol=0):
            return f"{name.split('_')[0]} {_format(one)} against {_format(other)}"
    return None


def _matrix(grid: Grid) -> NDArray[np.float64]:
    """Return the direction (3, 3), whose column i is that of index axis i."""
    return np.array(grid.direction, np.float64).reshape(3, 3)


def _reverse(values: tuple[Each, Each, Each]) -> tuple[Each, Each, Each]:
    first, second, third = values
    return third, second, first


def _triple(values: Sequence[float] | NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _format(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "×".join(f"{value:g}" for value in values)
