"""Where the voxels of an image lie: the grid, what a grid must obey, and how two of them differ."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.types import Shape, Triple

Number = TypeVar("Number", int, float)

IDENTITY: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID_TOLERANCE_MM: Final = 5e-2
"""Headers round what they store: voxels nearer than this to each other are the same voxel."""
OBLIQUE_TOLERANCE: Final = 1e-4
SHEAR_TOLERANCE: Final = 1e-3
"""Largest scalar product of two axes of a grid that still counts as a right angle."""
MAX_VOXELS: Final = 2**31
"""A scan of 1024×1024×2048 voxels; a header that states more is damaged."""
SPACING_RANGE_MM: Final = (1e-3, 1e3)
MAX_ORIGIN_MM: Final = 1e6


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, in ITK's convention: (x, y, z) and LPS millimetres."""

    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: Triple
    origin_xyz_mm: Triple
    direction: tuple[float, ...] = IDENTITY
    """Nine numbers, row by row; column i is the direction of index axis i."""

    @classmethod
    def axis_aligned(cls, shape: Shape, spacing_mm: Triple, origin_mm: Triple = (0.0, 0.0, 0.0)) -> Self:
        """A grid of identity direction from (z, y, x) triples."""
        return cls(_reverse(shape), _reverse(spacing_mm), _reverse(origin_mm))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{name: tuple(value) for name, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain lists, exact in JSON."""
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
        """Whether the direction is the identity."""
        return bool(np.allclose(self.direction, IDENTITY, atol=OBLIQUE_TOLERANCE))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(np.prod(self.spacing_xyz_mm)) / 1000.0


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and its grid; `array.shape == grid.shape`."""

    array: NDArray[Any]
    grid: Grid


def grid_of_axes(
    where: object, size_xyz: Sequence[int], axes_mm: NDArray[np.float64], origin_xyz_mm: Sequence[float]
) -> Grid:
    """The grid whose voxel steps are the columns of `axes_mm` (3, 3), in LPS mm; `where` names its file.

    Raises:
        InputError: a number is not finite or absurd, or the axes are not at right angles.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # headers hold any number; the checks below find it
        spacing = np.linalg.norm(axes_mm, axis=0)
        if not (np.isfinite(axes_mm).all() and (spacing >= SPACING_RANGE_MM[0]).all()):
            raise InputError(f"{where}: voxel spacing {_words(spacing)} mm; correct the header or export again")
        direction = axes_mm / spacing
    _check_numbers(where, spacing, origin_xyz_mm)
    skew = np.abs(direction.T @ direction - np.eye(3)).max()
    if skew > SHEAR_TOLERANCE:
        raise InputError(
            f"{where}: its axes are not at right angles (cosine {skew:.2g}, at most {SHEAR_TOLERANCE:g}); "
            "resample it to an unsheared grid"
        )
    size = int(size_xyz[0]), int(size_xyz[1]), int(size_xyz[2])
    flat = tuple(float(value) + 0.0 for value in direction.ravel())  # adding 0 turns -0 into 0
    return Grid(size, _triple(spacing), _triple(origin_xyz_mm), flat)


def _check_numbers(where: object, spacing_mm: Sequence[float], origin_mm: Sequence[float]) -> None:
    low, high = SPACING_RANGE_MM
    if any(not low <= value <= high for value in spacing_mm):
        raise InputError(f"{where}: voxel spacing {_words(spacing_mm)} mm is not within {low:g} to {high:g}")
    if any(not abs(value) <= MAX_ORIGIN_MM for value in origin_mm):
        raise InputError(f"{where}: origin {_words(origin_mm)} mm is no place in a scanner; correct the header")


def grid_difference(first: Grid, second: Grid) -> str | None:
    """Words for the first difference of two grids; none where they agree within `GRID_TOLERANCE_MM`."""
    if first.size_xyz != second.size_xyz:
        return f"size {_words(first.size_xyz)} against {_words(second.size_xyz)}"
    size = np.array(first.size_xyz)
    limits = {
        "origin_xyz_mm": GRID_TOLERANCE_MM,
        "spacing_xyz_mm": GRID_TOLERANCE_MM / size.max(),
        "direction": GRID_TOLERANCE_MM / (size * first.spacing_xyz_mm).max(),
    }
    for name, limit in limits.items():
        one, two = getattr(first, name), getattr(second, name)
        if not np.allclose(one, two, atol=limit, rtol=0):
            return f"{name.split('_')[0]} {_words(one)} against {_words(two)}"
    return None


def _reverse(values: tuple[Number, Number, Number]) -> tuple[Number, Number, Number]:
    first, second, third = values
    return third, second, first


def _triple(values: Sequence[float] | NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _words(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "×".join(f"{value:g}" for value in values)
