"""Outlines of a mask's slice: polygons from which other programs get the same pixels back.

A program fills polygons by its own rule. Some test the centre of a pixel, some round the corners to pixels and draw the
border as well. The outlines here lie inside the pixels' outer edges, so that both rules give the mask. A hole is joined
to its outline by a keyhole, a channel without width (DICOM PS3.3, C.8.8.6.3), because programs combine several
polygons of a slice by different rules.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.types import MaskArray

Point: TypeAlias = tuple[int, int]
"""x and y, in `_UNITS` of a pixel or in pixels from the outer corner of the first pixel."""
Edge: TypeAlias = tuple[Point, Point]
"""Start and direction of one side of a pixel, in pixels. The mask is on its right, as y points down."""

_UNITS: Final = 20
"""Units in a pixel. Whole numbers keep the comparison of places exact."""
_INSET: Final = 3
"""Distance from the pixels' outer edges, in units: 0.15 pixel."""
_SIDES: Final = (((1, 0), (0, 0)), ((0, 1), (1, 0)), ((-1, 0), (1, 1)), ((0, -1), (0, 1)))
"""Direction of the four sides of a pixel, and where they start."""


def outlines(mask: MaskArray) -> list[NDArray[np.float64]]:
    """Return a closed polygon for each 4-connected part of a mask, with its holes.

    Args:
        mask: boolean (y, x).

    Returns:
        Corners (n, 2) as x and y in pixels, with 0 at the centre of the first pixel. The last corner is not the first
        one again. An empty mask has no polygon.
    """
    loops = list(_loops(mask))
    whole = [loop for loop in loops if _area(loop) > 0]
    # The keyhole of a hole ends at its outline or at a hole that begins further up, which is joined already.
    for hole in sorted((loop for loop in loops if _area(loop) < 0), key=_top_left):
        _join(whole, hole)
    return [np.array(loop) / _UNITS - 0.5 for loop in whole]


def _loops(mask: MaskArray) -> Iterator[list[Point]]:
    """Yield the corners of each border, moved into the mask. Borders of holes run the other way round."""
    pending = _successors(mask)
    while pending:
        edge = next(iter(pending))
        loop = []
        while edge in pending:
            after = pending.pop(edge)
            if after[1] != edge[1]:
                loop.append(_inset(after[0], edge[1], after[1]))
            edge = after
        yield loop


def _successors(mask: MaskArray) -> dict[Edge, Edge]:
    """Return the side that follows each side of the mask's border."""
    leaving = _leaving(mask)
    found = {}
    for start, directions in leaving.items():
        for dx, dy in directions:
            end = start[0] + dx, start[1] + dy
            # Where two pixels touch at a corner only, the right turn stays at the same pixel.
            right = (-dy, dx)
            found[start, (dx, dy)] = (end, right if right in leaving[end] else leaving[end][0])
    return found


def _leaving(mask: MaskArray) -> dict[Point, list[Point]]:
    """Return the directions of the sides that start at each corner of a pixel."""
    padded = np.pad(mask, 1)
    leaving: dict[Point, list[Point]] = defaultdict(list)
    for (dx, dy), (x, y) in _SIDES:
        beyond = np.roll(padded, (dx, -dy), axis=(0, 1))[1:-1, 1:-1]  # the neighbour to the left of the side
        for row, column in np.argwhere(mask & ~beyond).tolist():
            leaving[column + x, row + y].append((dx, dy))
    return leaving


def _inset(corner: Point, before: Point, after: Point) -> Point:
    """Return a corner of the border in units, moved into the mask from both of its sides."""
    x = _UNITS * corner[0] - _INSET * (before[1] + after[1])
    y = _UNITS * corner[1] + _INSET * (before[0] + after[0])
    return x, y


def _area(loop: list[Point]) -> float:
    """Return the area in square units: positive for an outline, negative for a hole."""
    following = [*loop[1:], loop[0]]
    return sum(x * below - right * y for (x, y), (right, below) in zip(loop, following, strict=True)) / 2


def _top_left(loop: list[Point]) -> Point:
    x, y = min(loop, key=lambda point: (point[1], point[0]))
    return y, x


def _join(loops: list[list[Point]], hole: list[Point]) -> None:
    """Insert a hole into the loop that is next on the left of its top left corner."""
    y, x = _top_left(hole)
    reached, index, loop = max(
        (place, index, loop) for loop in loops for index, place in _crossings(loop, y) if place < x
    )
    first = hole.index((x, y))
    start = [] if loop[index - 1] == (reached, y) else [(reached, y)]
    loop[index:index] = [*start, *hole[first:], *hole[:first], (x, y), (reached, y)]


def _crossings(loop: list[Point], y: int) -> Iterator[tuple[int, int]]:
    """Yield the index at which a point of this y can be inserted, and its x, where the loop meets the line y."""
    for index, ((x, above), (right, below)) in enumerate(zip(loop, [*loop[1:], loop[0]], strict=True)):
        if above == y or (x == right and min(above, below) < y < max(above, below)):
            yield index + 1, x
