"""Kidneys from probabilities, worked out by hand: pieces, sides, boxes, confidence."""

import numpy as np
import pytest

from renalnet.data.images.volume import Grid
from renalnet.localiser.kidneys import MARGIN_MM, CoarseKidney, kidneys_of
from renalnet.types import FloatArray

GRID = Grid.axis_aligned((20, 20, 30), (6.0, 6.0, 6.0))
LEFT, RIGHT = 0, 1


def empty() -> FloatArray:
    return np.zeros((2, *GRID.shape), np.float32)


def test_two_kidneys_with_their_boxes() -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:25] = 0.9
    probability[RIGHT, 4:10, 8:12, 5:9] = 0.8
    found = kidneys_of(probability, GRID)
    assert found["left"].outline.low_mm == (27.0, 45.0, 117.0)
    assert found["left"].outline.high_mm == (63.0, 69.0, 147.0)
    assert np.subtract(found["left"].outline.low_mm, found["left"].box.low_mm).tolist() == list(MARGIN_MM)
    assert found["left"].volume_ml == pytest.approx(120 * 0.216)
    assert found["left"].certainty == pytest.approx(0.9)
    assert found["right"].volume_ml == pytest.approx(96 * 0.216)
    assert not (found["left"].num_cut_ends or found["left"].is_joined or found["right"].is_joined)


def test_nothing_is_found_in_nothing() -> None:
    assert kidneys_of(empty(), GRID) == {}


def test_a_voxel_belongs_to_a_kidney_by_both_sides_together() -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:25] = 0.45
    probability[RIGHT, 5:11, 8:12, 20:25] = 0.4
    found = kidneys_of(probability, GRID)
    assert set(found) == {"left"}
    assert found["left"].certainty == pytest.approx(0.85)


def test_a_kidney_has_the_side_of_most_of_its_voxels() -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:25] = 0.9
    # One of six slices is taken for the other side.
    probability[:, 5] = probability[::-1, 5]
    found = kidneys_of(probability, GRID)
    assert set(found) == {"left"}
    assert found["left"].volume_ml == pytest.approx(120 * 0.216)


def test_joined_kidneys_are_divided_and_said_to_be_joined() -> None:
    probability = empty()
    probability[LEFT, 5:9, 8:12, 15:24] = 0.9
    probability[RIGHT, 5:9, 8:12, 6:15] = 0.9
    found = kidneys_of(probability, GRID)
    assert found["left"].is_joined and found["right"].is_joined
    assert found["left"].volume_ml == found["right"].volume_ml == pytest.approx(4 * 4 * 9 * 0.216)


def test_a_tumor_close_by_belongs_to_the_kidney_and_a_remote_piece_does_not() -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:24] = 0.9
    probability[LEFT, 5:11, 8:12, 26:28] = 0.9  # 18 mm from the kidney
    probability[LEFT, 17:20, 0:4, 20:24] = 0.9  # 42 mm away
    found = kidneys_of(probability, GRID)
    assert found["left"].volume_ml == pytest.approx((6 * 4 * 4 + 6 * 4 * 2) * 0.216)


def test_a_speck_near_a_kidney_is_left_out() -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:24] = 0.9
    probability[LEFT, 12, 8, 20] = 0.9
    assert kidneys_of(probability, GRID)["left"].outline.high_mm[0] == 63.0


def test_a_kidney_at_the_end_of_the_scan_is_cut() -> None:
    probability = empty()
    probability[LEFT, 15:20, 8:12, 20:25] = 0.9
    assert kidneys_of(probability, GRID)["left"].num_cut_ends == 1


def test_without_a_pole_the_confidence_is_halved() -> None:
    probability = empty()
    probability[LEFT, :, 8:12, 20:25] = 0.9
    found = kidneys_of(probability, GRID)["left"]
    assert found.num_cut_ends == 2
    assert found.confidence == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("certainty", "volume_ml", "confidence"),
    [(1.0, 150, 1.0), (0.75, 150, 0.5), (1.0, 8, 0.0), (1.0, 19, 0.5), (1.0, 2750, 0.5), (0.5, 150, 0.0)],
)
def test_confidence(certainty: float, volume_ml: float, confidence: float) -> None:
    probability = empty()
    probability[LEFT, 5:11, 8:12, 20:25] = 0.9
    found = kidneys_of(probability, GRID)["left"]
    kidney = CoarseKidney(found.outline, certainty, volume_ml, num_cut_ends=0, is_joined=False, mask=found.mask)
    assert found.mask.array.sum() == 6 * 4 * 5
    assert kidney.confidence == pytest.approx(confidence)
