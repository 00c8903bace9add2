"""Intensity rules against arrays worked out by hand and against a search of all bounds."""

import numpy as np
import pytest
from support.label_sets import CYST

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.errors import InputError
from renalnet.evaluation.intensity_rules import (
    RULE_HU_RANGE,
    InsideRule,
    WindowRule,
    fit_inside_rule,
    fit_inside_rule_to_counts,
    fit_window_rule,
    fit_window_rule_to_counts,
    hu_counts,
)
from renalnet.types import HuArray, LabelArray

Case = tuple[HuArray, LabelArray]
HU_LOW, HU_HIGH = RULE_HU_RANGE


def _case(hu: list[int], label: list[int]) -> Case:
    return np.array(hu, np.int16).reshape(1, 1, -1), np.array(label, np.uint8).reshape(1, 1, -1)


def _random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2], size=(3, 4, 5), p=[0.4, 0.4, 0.2]).astype(np.uint8)
    means = np.array([30, 190, 60 + 100 * seed])
    return np.rint(rng.normal(means[label], 60)).astype(np.int16), label


def _dice(truth: LabelArray, pred: LabelArray, label: int) -> float:
    both = ((truth == label) & (pred == label)).sum()
    return float(2 * both / ((truth == label).sum() + (pred == label).sum()))


def test_counts_hold_every_voxel_once_and_clip() -> None:
    counts = hu_counts(*_case([-1000, -200, 0, 500, 900], [0, 1, 2, 1, 1]), KIDNEY_TUMOR)
    assert counts.shape == (701, 3)
    assert counts.sum() == 5
    assert counts[0].tolist() == [1, 1, 0]
    assert counts[200, 2] == 1
    assert counts[700].tolist() == [0, 2, 0]


def test_counts_refuse_arrays_of_two_shapes() -> None:
    with pytest.raises(InputError, match="both must be on one grid"):
        hu_counts(np.zeros((1, 2, 3), np.int16), np.zeros((1, 2, 4), np.uint8), KIDNEY_TUMOR)


def test_inside_rule_by_hand() -> None:
    # Background at 10 HU does not count. Below 51: 2 of 3 tumor voxels and no kidney, Dice 4 / 5 = 0.8;
    # below 191: all 3 and one kidney voxel, Dice 6 / 7.
    rule = fit_inside_rule([_case([10, 10, 20, 50, 190, 180, 220], [0, 0, 2, 2, 2, 1, 1])], KIDNEY_TUMOR)
    assert rule == InsideRule(191, below=True, tumor_dice=pytest.approx(6 / 7))


def test_inside_rule_finds_bright_tumors_from_above() -> None:
    image, label = _case([300, 310, 180, 200, 900], [2, 2, 1, 1, 0])
    rule = fit_inside_rule([(image, label)], KIDNEY_TUMOR)
    assert (rule.threshold_hu, rule.below, rule.tumor_dice) == (201, False, 1.0)
    assert np.array_equal(rule.apply(image, label, KIDNEY_TUMOR), label)


def test_inside_rule_takes_the_mean_over_cases_with_a_tumor() -> None:
    dark = _case([20, 30, 200], [2, 2, 1])
    healthy = _case([20, 200], [1, 1])
    assert fit_inside_rule([dark, healthy], KIDNEY_TUMOR) == fit_inside_rule([dark], KIDNEY_TUMOR)


@pytest.mark.parametrize("below", [True, False])
def test_inside_rule_reaches_what_it_promises_beyond_the_clipped_range(below: bool) -> None:
    image, label = _case([-900, -800, 700, 900], [2, 2, 1, 1] if below else [1, 1, 2, 2])
    rule = fit_inside_rule([(image, label)], KIDNEY_TUMOR)
    assert rule.tumor_dice == 1.0
    assert np.array_equal(rule.apply(image, label, KIDNEY_TUMOR), label)


def test_inside_rule_is_the_best_of_all_thresholds() -> None:
    cases = [_random_case(seed) for seed in range(3)]
    tries = [InsideRule(t, below, 0.0) for below in (True, False) for t in range(HU_LOW, HU_HIGH + 2)]
    best = max(
        np.mean([_dice(label, rule.apply(image, label, KIDNEY_TUMOR), 2) for image, label in cases]) for rule in tries
    )
    rule = fit_inside_rule(cases, KIDNEY_TUMOR)
    reached = np.mean([_dice(label, rule.apply(image, label, KIDNEY_TUMOR), 2) for image, label in cases])
    assert rule.tumor_dice == pytest.approx(best) == pytest.approx(reached)


def test_window_rule_by_hand() -> None:
    # Kidney at 150 and 160, tumor at 60, background at 0 and 400: two windows part them without a fault.
    image, label = _case([0, 60, 61, 150, 160, 400], [0, 2, 2, 1, 1, 0])
    rule = fit_window_rule([(image, label)], KIDNEY_TUMOR)
    assert (rule.kidney_dice, rule.tumor_dice) == (1.0, 1.0)
    assert np.array_equal(rule.apply(image, None, KIDNEY_TUMOR), label)


def test_window_rule_lays_tumor_over_kidney() -> None:
    rule = WindowRule(kidney_hu=(0, 100), tumor_hu=(50, 150), kidney_dice=0.0, tumor_dice=0.0)
    assert rule.apply(np.array([[[-1, 0, 50, 99, 149, 150]]], np.int16), None, KIDNEY_TUMOR).ravel().tolist() == [
        0,
        1,
        2,
        2,
        2,
        0,
    ]


def test_window_rule_bounds_at_the_ends_take_in_everything_beyond() -> None:
    rule = WindowRule(kidney_hu=(-200, -195), tumor_hu=(495, 500), kidney_dice=0.0, tumor_dice=0.0)
    assert rule.apply(np.array([[[-1000, 3000]]], np.int16), None, KIDNEY_TUMOR).ravel().tolist() == [1, 2]


def test_window_rule_is_the_best_of_all_windows() -> None:
    cases = [_random_case(seed) for seed in range(2)]
    bounds = range(HU_LOW, HU_HIGH + 1, 20)  # a coarser lattice: the fitted rule can be no worse
    tries = [WindowRule((0, 0), (low, high), 0.0, 0.0) for low in bounds for high in bounds if low < high]
    best = max(
        np.mean([_dice(label, rule.apply(image, None, KIDNEY_TUMOR), 2) for image, label in cases]) for rule in tries
    )
    rule = fit_window_rule(cases, KIDNEY_TUMOR)
    assert rule.tumor_dice >= best
    assert rule.tumor_dice == pytest.approx(np.mean([_dice(y, rule.apply(x, None, KIDNEY_TUMOR), 2) for x, y in cases]))


def test_rules_fit_counts_as_they_fit_images() -> None:
    cases = [_random_case(seed) for seed in range(3)]
    counts = [hu_counts(*case, KIDNEY_TUMOR) for case in cases]
    assert fit_inside_rule_to_counts(counts) == fit_inside_rule(cases, KIDNEY_TUMOR)
    assert fit_window_rule_to_counts(counts) == fit_window_rule(cases, KIDNEY_TUMOR)


@pytest.mark.parametrize("fit", [fit_inside_rule, fit_window_rule])
def test_no_tumor_anywhere_is_an_error(fit: object) -> None:
    assert callable(fit)
    with pytest.raises(InputError, match="no case has a tumor"):
        fit([_case([100, 0], [1, 0])], KIDNEY_TUMOR)


def test_cysts_are_other_tissue() -> None:
    """Counts and rules are those of the same case with background for the cyst."""
    image, label = _case([10, 60, 61, 150, 160, 5], [0, 2, 2, 1, 1, CYST])
    without = np.where(label == CYST, 0, label).astype(np.uint8)
    assert np.array_equal(hu_counts(image, label, KITS23), hu_counts(image, without, KIDNEY_TUMOR))
    inside = fit_inside_rule([(image, label)], KITS23)
    window = fit_window_rule([(image, label)], KITS23)
    assert inside == fit_inside_rule([(image, without)], KIDNEY_TUMOR)
    assert window == fit_window_rule([(image, without)], KIDNEY_TUMOR)
    assert inside.apply(image, label, KITS23).ravel().tolist() == [0, 2, 2, 1, 1, 0]
    assert window.apply(image, label, KITS23).ravel().tolist() == [0, 2, 2, 1, 1, 0]
