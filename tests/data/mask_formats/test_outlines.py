"""Outlines of slices: filled by other libraries' rules, they give the mask back."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.draw import polygon2mask

from renalnet.data.mask_formats.outlines import outlines
from renalnet.types import MaskArray

Fill = Callable[[list[NDArray[np.float64]], tuple[int, int]], MaskArray]


def by_centres(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> MaskArray:
    """Combine the polygons by exclusive or, as dcmrtstruct2nii does with the same function of scikit-image."""
    filled = np.zeros(shape, bool)
    for polygon in polygons:
        filled ^= polygon2mask(shape, polygon[:, ::-1])
    return filled


def by_path(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> MaskArray:
    """Matplotlib's rule: the winding number at the centre of each pixel."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    inside = [Polygon(polygon, closed=False).contains_points(centres).reshape(shape) for polygon in polygons]
    return np.any([np.zeros(shape, bool), *inside], axis=0)


def by_rounded_corners(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> MaskArray:
    """Round the corners to pixels and draw the border as well, as readers do that use OpenCV; this is Pillow's."""
    image = Image.new("1", shape[::-1])
    for polygon in polygons:
        corners = [tuple(point) for point in np.rint(polygon).astype(int).tolist()]
        ImageDraw.Draw(image).polygon(corners, fill=1, outline=1)
    return np.array(image)


FILLS = [by_centres, by_path, by_rounded_corners]
RING_WITH_ISLAND = np.array(
    [[int(character) for character in row] for row in (
        "0000000000",
        "0111111110",
        "0100000010",
        "0101110010",
        "0101010010",
        "0101110110",
        "0100000010",
        "0111111110",
        "0000000001",
    )],
    bool,
)  # fmt: skip
"""A ring of one pixel, a ring in its hole, a pixel that touches the outer ring at a corner; 9 rows, 10 columns."""


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("turns", range(4))
def test_holes_and_islands_come_back(fill: Fill, turns: int) -> None:
    mask = np.rot90(RING_WITH_ISLAND, turns)
    np.testing.assert_array_equal(fill(outlines(mask), mask.shape), mask)


@pytest.mark.parametrize("fill", [by_centres, by_path])
def test_random_masks_come_back(fill: Fill) -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        mask = random.random(random.integers(1, 13, 2)) < random.choice([0.3, 0.5, 0.8])
        np.testing.assert_array_equal(fill(outlines(mask), mask.shape), mask)


def test_one_pixel_is_a_square_that_is_015_smaller_on_each_side() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (polygon,) = outlines(mask)
    assert sorted(map(tuple, polygon.round(9).tolist())) == [(1.65, 0.65), (1.65, 1.35), (2.35, 0.65), (2.35, 1.35)]


def test_each_part_is_one_polygon_and_a_hole_is_none() -> None:
    """Pixels that touch at a corner are two parts; the ring with its hole is one."""
    assert len(outlines(RING_WITH_ISLAND)) == 3
    assert len(outlines(np.eye(4, dtype=bool))) == 4
    assert outlines(np.zeros((4, 5), bool)) == []


def test_two_holes_side_by_side_share_a_channel() -> None:
    mask = np.ones((3, 7), bool)
    mask[1, [1, 3, 5]] = False
    (polygon,) = outlines(mask)
    # Four corners of the outline and of each of three holes; a channel repeats the hole's first corner and ends at two
    # places, one of which is new only at the outline: 4 + 12 + 3 + (2 + 1 + 1).
    assert len(polygon) == 23
    np.testing.assert_array_equal(by_centres([polygon], mask.shape), mask)
