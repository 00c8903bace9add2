"""Left and right kidney, and the box around one of them."""

import numpy as np
import pytest
from support.label_values import TUMOR

from renalnet.data.cases.sides import Box, body_width_mm, lesioned_side, split_sides
from renalnet.data.images.volume import Grid, Volume

GRID = Grid.axis_aligned((10, 30, 60), (3.0, 3.0, 3.0))


def scan_with(*blocks: tuple[int, int, int]) -> tuple[Volume, Volume]:
    """Return a body in air with labelled blocks, each given by its first column, last column and label."""
    image = np.full(GRID.shape, -1000, np.int16)
    label = np.zeros(GRID.shape, np.uint8)
    image[:, 5:25, 5:55] = 40
    for first, last, value in blocks:
        label[3:7, 12:18, first:last] = value
    return Volume(image, GRID), Volume(label, GRID)


def test_higher_x_is_the_patients_left() -> None:
    image, label = scan_with((10, 16, 1), (40, 46, 1))
    sides = split_sides(label, image)
    assert set(np.unique(sides[..., 10:16])) == {0, 2}
    assert set(np.unique(sides[..., 40:46])) == {0, 1}


def test_two_kidneys_off_the_middle_are_still_two() -> None:
    image, label = scan_with((31, 37, 1), (51, 54, 1))  # both on the same side of the image's middle
    sides = split_sides(label, image)
    assert (sides[5, 15, 33], sides[5, 15, 52]) == (2, 1)


def test_a_tumor_has_the_side_of_the_kidney_it_touches() -> None:
    image, label = scan_with((10, 16, 1), (16, 33, 2), (40, 46, 1))
    assert (split_sides(label, image)[5, 15, 10:33] == 2).all()


def test_an_empty_label_has_no_sides() -> None:
    image, label = scan_with()
    assert not split_sides(label, image).any()


def test_a_label_map_in_small_pieces_is_split_at_the_middle_of_the_body() -> None:
    image, label = scan_with()
    label.array[0::2, 15, 8:52:4] = 1  # 55 pieces of a voxel, none of which has a tenth of the voxels
    sides = split_sides(label, image)
    assert set(np.unique(sides[..., :30])) == {0, 2}
    assert set(np.unique(sides[..., 30:])) == {0, 1}


def test_the_lesioned_side_has_most_tumor() -> None:
    image, label = scan_with((10, 16, 2), (16, 18, 1), (40, 43, 2), (43, 46, 1))
    sides = split_sides(label, image)
    assert lesioned_side(label.array == TUMOR, sides, np.random.default_rng(0)) == "right"


def test_without_tumor_a_side_is_drawn_and_a_missing_kidney_is_not() -> None:
    image, label = scan_with((10, 16, 1), (40, 46, 1))
    sides = split_sides(label, image)
    assert {lesioned_side(label.array == TUMOR, sides, np.random.default_rng(seed)) for seed in range(9)} == {
        "left",
        "right",
    }
    only_left = np.where(sides == 1, sides, 0)
    assert {lesioned_side(label.array == TUMOR, only_left, np.random.default_rng(seed)) for seed in range(9)} == {
        "left"
    }


def test_box_runs_from_outer_edge_to_outer_edge() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1:3, 2] = True
    box = Box.around(mask, Grid.axis_aligned((4, 4, 4), (3.0, 2.0, 1.0), (100.0, 0.0, 0.0)))
    assert box == Box((101.5, 1.0, 1.5), (104.5, 5.0, 2.5))
    assert box.size_mm == (3.0, 4.0, 1.0)
    assert box.centre_mm == (103.0, 3.0, 2.0)
    assert Box.around(np.zeros((4, 4, 4), bool), GRID) is None


def test_boxes_grow_unite_and_hold() -> None:
    small = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    other = Box((-2.0, 0.0, 0.0), (0.0, 3.0, 1.0))
    assert small.grown(2.0) == Box((-2.0, -2.0, -2.0), (3.0, 3.0, 3.0))
    both = small.union(other)
    assert both == Box((-2.0, 0.0, 0.0), (1.0, 3.0, 1.0))
    assert both.holds(small)
    assert not small.holds(both)


def test_share_of_a_mask_within_a_box() -> None:
    mask = np.zeros((1, 1, 10), bool)
    mask[..., 2:6] = True
    grid = Grid.axis_aligned(mask.shape, (1.0, 1.0, 1.0))
    assert Box((-1.0, -1.0, 3.5), (1.0, 1.0, 20.0)).share_of(mask, grid) == pytest.approx(0.5)
    assert Box((-1.0, -1.0, 3.5), (1.0, 1.0, 20.0)).share_of(np.zeros_like(mask), grid) == 0


def test_a_body_is_measured_from_side_to_side() -> None:
    image, _ = scan_with()
    assert body_width_mm(image) == 50 * 3.0
    assert body_width_mm(Volume(np.full(GRID.shape, -1000, np.int16), GRID)) == 60 * 3.0
