"""Assembly of DICOM slices to a volume by their positions: order, spacing, and the checks that they form a volume."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import GRID_TOLERANCE_MM, SHEAR_TOLERANCE, Grid, grid_of_axes
from renalnet.errors import InputError

SAME_POSITION_MM: Final = 1e-2
"""Slices that are nearer to each other are copies of one slice."""
_SAME_DIRECTION: Final = 1e-4
"""Largest difference of direction cosines, and relative difference of pixel spacings, within a series."""
_UNEVEN_SHARE: Final = 0.05
"""Largest deviation of a slice distance, as a share of the usual distance. Headers store rounded positions."""
_ORTHONORMAL: Final = 1e-6
"""Largest deviation of exact directions from unit length and right angles."""
_EXACT: Final = 1e-9
"""Largest difference of two numbers that are the same text."""
_FEWEST_DECIMALS: Final = 2
"""Fewest decimals of directions that are rounded. With one, the last slices could be 20 mm off."""
_MOST_DECIMALS: Final = 6
_MAX_NAMED: Final = 6


@dataclass(frozen=True)
class Slice:
    """File and geometry of a slice, in LPS mm."""

    path: Path
    shape: tuple[int, int]
    """Rows, columns."""
    spacing_mm: tuple[float, ...]
    """Distance between rows, then between columns."""
    position_mm: tuple[float, ...]
    """Centre of the first pixel (x, y, z)."""
    orientation: tuple[float, ...]
    """Direction along a row (x, y, z), then along a column."""

    @property
    def normal(self) -> tuple[float, ...]:
        """Unit vector at right angles to the slice (x, y, z)."""
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged header may contain any number
            normal = np.cross(self.orientation[:3], self.orientation[3:])
            return tuple((normal / max(float(np.linalg.norm(normal)), _ORTHONORMAL)).tolist())


def ordered_slices(slices: Sequence[Slice], where: object) -> tuple[list[Slice], Grid]:
    """Return the slices in the order of their positions along the slice normal, and their grid.

    The distance of slices is that of their positions. SliceThickness may differ from it (overlapping slices, gaps).

    Headers may state rounded directions, which are neither of unit length nor at right angles. They are normalised as
    by GDCM and ITK, and the direction from slice to slice is that of the positions, which are more exact.

    Raises:
        InputError: there are fewer than two slices; their sizes, spacings or orientations differ; two have the same
            position; their distances are uneven; or they are shifted against each other (gantry tilt). The message
            names the series by `where` and lists positions.
    """
    if len(slices) < 2:
        raise InputError(f"{where}: {len(slices)} slice; a volume needs two or more to know their distance")
    _check_alike(slices, where)
    positions = np.array([one.position_mm for one in slices])
    if not np.isfinite([*positions.ravel(), *slices[0].orientation]).all():
        raise InputError(f"{where}: positions or orientations are not finite; export the series again")
    _check_directions(slices[0].orientation, where)
    normal = np.array(slices[0].normal)
    # File names and InstanceNumber follow no fixed order, so only positions decide.
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    ordered = [slices[index] for index in order]
    _check_distances(ordered, along[order], int(np.abs(normal).argmax()), where)
    return ordered, _grid(ordered, positions[order], normal, where)


def direction_error(orientation: Sequence[float]) -> float:
    """Return the largest angle, in radians, by which readers of rounded directions may differ. It is 0 for exact ones.

    Rounding by `h` moves a direction by up to `√3 h`, and the normal by up to `√6 h`. Readers make the directions
    orthogonal in several ways, which differ by the cosine between row and column.
    """
    rounding = _rounding(orientation)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    return abs(float(row @ column)) + math.sqrt(6) * rounding if rounding else 0.0


def _rounding(orientation: Sequence[float]) -> float:
    """Return half of the last decimal of rounded directions, and 0 for exact ones."""
    if _deviation(orientation) <= _ORTHONORMAL:
        return 0.0
    numbers = np.array(orientation)
    decimals = range(_FEWEST_DECIMALS, _MOST_DECIMALS)
    stated = (count for count in decimals if np.allclose(numbers, numbers.round(count), rtol=0, atol=_EXACT))
    return 0.5 * 10.0 ** -next(stated, _MOST_DECIMALS)


def _deviation(orientation: Sequence[float]) -> float:
    """Return the largest deviation of row and column from unit length and right angles."""
    axes = np.array(orientation).reshape(2, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.abs(axes @ axes.T - np.eye(2)).max())


def _check_directions(orientation: Sequence[float], where: object) -> None:
    # Each vector is off by up to √3 times the rounding, and its square by twice that.
    limit = math.sqrt(3) * 10.0**-_FEWEST_DECIMALS
    deviation = _deviation(orientation)
    if not deviation <= limit:
        raise InputError(
            f"{where}: the directions {_format(orientation)} of its rows and columns are off unit length or a right "
            f"angle by {deviation:.2g}, more than by rounding to {_FEWEST_DECIMALS} decimals; export the series again"
        )


def _grid(ordered: Sequence[Slice], positions: NDArray[np.float64], normal: NDArray[np.float64], where: object) -> Grid:
    first = ordered[0]
    # The mean over the whole series averages out the rounding of single positions.
    slice_vector = (positions[-1] - positions[0]) / (len(ordered) - 1)
    _check_tilt(positions, slice_vector, normal, max(SHEAR_TOLERANCE, direction_error(first.orientation)), where)
    _check_line(positions, slice_vector, normal, where)
    row, column = _in_plane(first.orientation, slice_vector)
    # The index x runs along a row, so its spacing is the distance between columns.
    axes = np.column_stack([row * first.spacing_mm[1], column * first.spacing_mm[0], slice_vector])
    size = first.shape[1], first.shape[0], len(ordered)
    return grid_of_axes(where, size, axes, first.position_mm)


def _in_plane(
    orientation: Sequence[float], slice_vector: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions of rows and columns. Rounded ones are made orthogonal, to the slice direction too."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if not _rounding(orientation):
        return row, column
    # The same order as in ITK's GDCMImageIO, which keeps the column more than the row.
    along = slice_vector / np.linalg.norm(slice_vector)
    row = np.cross(column, along)
    row /= np.linalg.norm(row)
    return row, np.cross(along, row)


def _check_alike(slices: Sequence[Slice], where: object) -> None:
    first = slices[0]
    for one in slices[1:]:
        same = (
            ("size", one.shape == first.shape),
            ("pixel spacing", np.allclose(one.spacing_mm, first.spacing_mm, rtol=_SAME_DIRECTION, atol=0)),
            ("orientation", np.allclose(one.orientation, first.orientation, atol=_SAME_DIRECTION)),
        )
        different = next((name for name, is_same in same if not is_same), None)
        if different:
            raise InputError(
                f"{where}: slices of several {different}s ({first.path.name} at {first.position_mm[2]:g} mm, "
                f"{one.path.name} at {one.position_mm[2]:g} mm); keep one series only"
            )


def _check_distances(ordered: Sequence[Slice], along: NDArray[np.float64], axis: int, where: object) -> None:
    """Check that the distances of neighbouring slices are equal and not 0.

    Args:
        ordered: the slices.
        along: their positions along the slice normal, in mm, in rising order.
        axis: index of the coordinate (x, y, z) that states positions in the message.
        where: name of the series in the message.
    """
    gaps = np.diff(along)
    positions = [f"{one.position_mm[axis]:g}" for one in ordered]
    is_copy = gaps < SAME_POSITION_MM
    problems = []
    if is_copy.any():
        names = [one.path.name for one in ordered]
        copies = [f"{positions[i]} mm ({names[i]}, {names[i + 1]})" for i in np.flatnonzero(is_copy)]
        problems.append(f"several slices at {_listed(copies)}")
    usual = _usual_gap_mm(gaps[~is_copy])
    # For thin slices, the share alone would be finer than the rounding of positions.
    limit = max(_UNEVEN_SHARE * usual, GRID_TOLERANCE_MM / 2)
    uneven = np.flatnonzero(~is_copy & (np.abs(gaps - usual) > limit))
    if uneven.size:
        ranges = _listed([f"{positions[i]} to {positions[i + 1]} mm" for i in uneven])
        problems.append(f"uneven distances (usually {usual:g} mm), slices missing or too many: {ranges}")
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}; export the whole series once, without copies")


def _usual_gap_mm(gaps: NDArray[np.float64]) -> float:
    # The lower median is a distance that occurs, where the mean of two middle ones might not be.
    return float(np.quantile(gaps, 0.5, method="lower")) if gaps.size else 0.0


def _check_tilt(
    positions: NDArray[np.float64],
    slice_vector: NDArray[np.float64],
    normal: NDArray[np.float64],
    limit: float,
    where: object,
) -> None:
    """Check that the line of the slices is parallel to their normal. A tilted gantry shears the volume.

    `limit` is the largest sine of the angle between them.
    """
    length = float(np.linalg.norm(slice_vector))
    tilt = float(np.linalg.norm(np.cross(slice_vector, normal)) / (length * np.linalg.norm(normal)))
    if not tilt <= limit:
        degrees = np.degrees(np.arcsin(min(tilt, 1.0)))
        span = f"from {_format(positions[0])} to {_format(positions[-1])} mm"
        raise InputError(
            f"{where}: slices are shifted against each other by {degrees:.1f} degrees (gantry tilt) {span}; "
            "resample it to an unsheared grid"
        )


def _check_line(
    positions: NDArray[np.float64], slice_vector: NDArray[np.float64], normal: NDArray[np.float64], where: object
) -> None:
    """Check that no slice is shifted in-plane against the line from the first to the last one."""
    deviations = positions - (positions[0] + np.arange(len(positions))[:, None] * slice_vector)
    # Deviations along the normal are uneven distances, which have their own tolerance.
    away = np.linalg.norm(deviations - (deviations @ normal)[:, None] * normal, axis=1)
    worst = int(away.argmax())
    if away[worst] > GRID_TOLERANCE_MM:
        raise InputError(
            f"{where}: the slice at {_format(positions[worst])} mm is {away[worst]:.2g} mm off the others' line; "
            "export the series again"
        )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MAX_NAMED} more" if len(words) > _MAX_NAMED else ""
    return ", ".join(words[:_MAX_NAMED]) + more


def _format(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in numbers)
