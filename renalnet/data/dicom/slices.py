"""Slices to a volume by their positions: order, spacing, and every reason why they make none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import GRID_TOLERANCE_MM, SHEAR_TOLERANCE, Grid, grid_of_axes
from renalnet.errors import InputError

_SAME_POSITION_MM: Final = 1e-2
_SAME_DIRECTION: Final = 1e-4
_UNEVEN_SHARE: Final = 0.05
"""Distances of neighbours may differ by this share of the usual one, for positions are rounded in headers."""
_MAX_NAMED: Final = 6


@dataclass(frozen=True)
class Slice:
    """A slice's file and place, in LPS mm."""

    path: Path
    shape: tuple[int, int]
    """Rows, columns."""
    spacing_mm: tuple[float, ...]
    """Between rows, between columns."""
    position_mm: tuple[float, ...]
    """Centre of the first pixel (x, y, z)."""
    orientation: tuple[float, ...]
    """Direction along a row (x, y, z), then along a column."""


def ordered_slices(slices: Sequence[Slice], where: object) -> tuple[list[Slice], Grid]:
    """Slices in the order of their positions along their normal, and their grid; `where` names the series.

    Raises:
        InputError: fewer than two slices, slices of several sizes, spacings or orientations, at the same
            position, at uneven distances, or shifted against each other (gantry tilt); positions are named.
    """
    if len(slices) < 2:
        raise InputError(f"{where}: {len(slices)} slice; a volume needs two or more to know their distance")
    _check_alike(slices, where)
    first = slices[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    positions = np.array([one.position_mm for one in slices])
    if not (np.isfinite(positions).all() and np.isfinite(normal).all()):
        raise InputError(f"{where}: positions or orientations that are not finite; export the series again")
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    ordered = [slices[index] for index in order]
    _check_distances(ordered, along[order], int(np.abs(normal).argmax()), where)
    step = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
    _check_straight(positions[order], step, normal, where)
    axes = np.column_stack([row * first.spacing_mm[1], column * first.spacing_mm[0], step])
    size = first.shape[1], first.shape[0], len(slices)
    return ordered, grid_of_axes(where, size, axes, ordered[0].position_mm)


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
    """`along` are the positions along the normal, rising, in mm; in words their coordinate on `axis` is given."""
    gaps, place = np.diff(along), [f"{one.position_mm[axis]:g}" for one in ordered]
    is_copy = gaps < _SAME_POSITION_MM
    problems = []
    if is_copy.any():
        copies = [
            f"{place[i]} mm ({ordered[i].path.name}, {ordered[i + 1].path.name})"
            for i in np.flatnonzero(is_copy).tolist()
        ]
        problems.append(f"several slices at {_listed(copies)}")
    usual = float(np.quantile(gaps[~is_copy], 0.5, method="lower")) if not is_copy.all() else 0.0
    limit = max(_UNEVEN_SHARE * usual, GRID_TOLERANCE_MM / 2)
    uneven = np.flatnonzero(~is_copy & (np.abs(gaps - usual) > limit))
    if uneven.size:
        gap_words = [f"{place[i]} to {place[i + 1]} mm" for i in uneven]
        problems.append(f"uneven distances (usually {usual:g} mm), slices missing or too many: {_listed(gap_words)}")
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}; export the whole series once, without copies")


def _check_straight(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64], where: object
) -> None:
    length = float(np.linalg.norm(step))
    tilt = float(np.linalg.norm(np.cross(step, normal)) / (length * np.linalg.norm(normal)))
    if not tilt <= SHEAR_TOLERANCE:
        raise InputError(
            f"{where}: slices are shifted against each other by {np.degrees(np.arcsin(min(tilt, 1.0))):.1f} degrees "
            f"(gantry tilt) from {_place(positions[0])} to {_place(positions[-1])} mm; resample it to an unsheared grid"
        )
    straight = positions[0] + np.arange(len(positions))[:, None] * step
    away = np.linalg.norm(positions - straight - ((positions - straight) @ normal)[:, None] * normal, axis=1)
    worst = int(away.argmax())
    if away[worst] > GRID_TOLERANCE_MM:
        raise InputError(
            f"{where}: the slice at {_place(positions[worst])} mm lies {away[worst]:.2g} mm beside the others' line; "
            "export the series again"
        )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MAX_NAMED} more" if len(words) > _MAX_NAMED else ""
    return ", ".join(words[:_MAX_NAMED]) + more


def _place(position: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in position)
