"""Signs of a mask without its truth, and the estimate that is learned from them."""

import json

import numpy as np
import pytest
from support.label_sets import ARTERY, CYST, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.evaluation.mask_quality import MIN_CASES, Calibration, calibrate, expected_dice, signs_of

SPACING_MM = (2.0, 1.0, 1.0)


def test_expected_dice_by_hand():
    probability = np.array([[[0.8, 0.6, 0.4, 0.2]]], dtype=np.float32)
    mask = np.array([[[True, True, False, False]]])
    # 2 · (0.8 + 0.6) / (2 + 2.0), times the largest probability in the mask
    assert expected_dice(probability, mask) == pytest.approx(0.8 * 0.7)


def test_sure_masks_are_expected_to_be_right():
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[1, 1:3, 1:3] = True
    assert expected_dice(mask.astype(np.float32), mask) == pytest.approx(1)


def test_an_empty_mask_is_right_unless_something_is_there():
    nothing = np.zeros((2, 2, 2), dtype=bool)
    assert expected_dice(np.zeros((2, 2, 2), np.float32), nothing) == 1
    assert expected_dice(np.full((2, 2, 2), 0.3, np.float32), nothing) == pytest.approx(0.7)


def scene():
    labels = np.zeros((6, 8, 8), dtype=np.uint8)
    labels[1:5, 2:6, 2:6] = 1
    labels[2, 3, 3] = labels[4, 5, 5] = 2
    probability = np.stack([labels == label for label in range(3)]).astype(np.float32)
    return probability, labels


def test_signs_of_a_sure_mask():
    signs = signs_of(*scene(), scene()[1], SPACING_MM, KIDNEY_TUMOR)
    assert signs.entropy_bits == pytest.approx(0, abs=1e-6)
    assert (signs.kept, signs.tumor_kept, signs.num_tumors, signs.border) == (1, 1, 2, 0)
    assert 10**signs.log_kidney_ml == pytest.approx(max(0.1, 62 * 2 / 1000))


def test_doubt_and_a_cut_off_mask_show():
    probability, labels = scene()
    doubtful = np.full_like(probability, 1 / 3)
    assert signs_of(doubtful, labels, labels, SPACING_MM, KIDNEY_TUMOR).entropy_bits == pytest.approx(
        np.log2(3), rel=1e-4
    )
    assert signs_of(probability[:, 1:], labels[1:], labels[1:], SPACING_MM, KIDNEY_TUMOR).border == pytest.approx(1 / 4)
    emptied = np.where(labels == 2, 1, labels).astype(np.uint8)
    after = signs_of(probability, labels, emptied, SPACING_MM, KIDNEY_TUMOR)
    assert (after.kept, after.tumor_kept, after.num_tumors) == (1, 0, 0)


def test_an_empty_mask_has_signs():
    probability, labels = scene()
    signs = signs_of(probability, labels, np.zeros_like(labels), SPACING_MM, KIDNEY_TUMOR)
    assert (signs.entropy_bits, signs.border, signs.kept) == (0, 0, 0)


def test_signs_with_a_cyst_by_hand():
    """The kidney keeps 58 of its 62 voxels, because 4 are a cyst. The cyst belongs to the mask, not to the tumor."""
    labels = scene()[1]
    labels[1, 2:4, 2:4] = CYST
    doubtful = np.full((4, *labels.shape), 1 / 4, np.float32)
    signs = signs_of(doubtful, labels, labels, SPACING_MM, KITS23)
    assert signs.entropy_bits == pytest.approx(2, rel=1e-5)
    assert 10**signs.log_kidney_ml == pytest.approx(58 * 2 / 1000)
    assert (signs.num_tumors, signs.border) == (2, 0)
    # 2 · 58 / 4 / (58 + 384 / 4), times 1/4; two voxels of tumor likewise.
    assert signs.expected_dice_kidney == pytest.approx(29 / 154 / 4)
    assert signs.expected_dice_tumor == pytest.approx(1 / 98 / 4)
    without = np.where(labels == CYST, 0, labels).astype(np.uint8)
    after = signs_of(doubtful, labels, without, SPACING_MM, KITS23)
    assert after.kept == pytest.approx(2 * 60 / (60 + 64)) and after.tumor_kept == 1


def test_vessels_are_no_part_of_the_mask_whose_signs_are_given():
    labels = scene()[1]
    sure = np.stack([labels == value for value in range(6)]).astype(np.float32)
    expected = signs_of(sure, labels, labels, SPACING_MM, VESSELS)
    vessel = labels.copy()
    vessel[0, 0] = ARTERY
    doubtful = sure.copy()
    doubtful[:, 0, 0] = 1 / 6
    found = signs_of(doubtful, vessel, vessel, SPACING_MM, VESSELS)
    assert (found.entropy_bits, found.kept, found.border) == (expected.entropy_bits, 1, 0)


def known_cases(num=12):
    rng = np.random.default_rng(0)
    signs = rng.normal(size=(num, 3))
    return signs, np.clip(0.6 + 0.15 * signs[:, 0] + rng.normal(0, 0.02, num), 0, 1)


def test_left_out_estimates_are_those_of_a_fit_without_the_case():
    signs, known = known_cases()
    found = calibrate(signs, known)
    standard = (signs - found.centre) / found.scale
    gaps = []
    for penalty in 10.0 ** np.arange(-1, 3.5, 0.5):
        without = []
        for left in range(len(known)):
            rest = np.arange(len(known)) != left
            rows = standard[rest]
            targets = known[rest]
            # The intercept is free, as where all are learned from; the penalty is on the slopes alone.
            design = np.column_stack([np.ones(len(rows)), rows])
            solution = np.linalg.solve(design.T @ design + penalty * np.diag([0, 1, 1, 1]), design.T @ targets)
            without.append(solution[0] + standard[left] @ solution[1:])
        gaps.append(float(np.abs(np.clip(without, 0, 1) - found.left_out).max()))
    assert min(gaps) < 1e-9


def test_informative_signs_are_learned_and_constant_ones_are_ignored():
    signs, known = known_cases(40)
    with_constant = np.column_stack([signs, np.full(40, 7.0)])
    found = calibrate(with_constant, known)
    assert found.weights[3] == pytest.approx(0)
    assert np.corrcoef(found.estimate(with_constant), known)[0, 1] > 0.95
    assert found.error == pytest.approx(np.abs(found.left_out - known).mean())
    assert ((found.estimate(100 * with_constant) >= 0) & (found.estimate(100 * with_constant) <= 1)).all()


def test_uninformative_signs_give_the_mean():
    rng = np.random.default_rng(1)
    signs = rng.normal(size=(30, 8))
    known = rng.uniform(0.4, 0.9, 30)
    assert np.abs(calibrate(signs, known).estimate(signs) - known.mean()).max() < 0.15


def test_too_few_cases_give_no_calibration():
    signs, known = known_cases(MIN_CASES - 1)
    assert calibrate(signs, known) is None


def test_json_keeps_a_calibration():
    """0.6 + 0.2 · (0.9 - 0.5) / 0.4 = 0.8; the second sign was the same in all known cases."""
    found = Calibration(
        np.array([0.5, 7.0]), np.array([0.4, np.inf]), np.array([0.2, 0.3]), 0.6, np.array([0.5, 0.7]), 0.05
    )
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Calibration.from_json(json.loads(text))
    assert back.estimate(np.array([[0.9, 8.0]])) == pytest.approx([0.8])
    assert (back.scale.tolist(), back.left_out.tolist(), back.error) == ([0.4, np.inf], [0.5, 0.7], 0.05)


def test_a_sign_beyond_all_known_ones_counts_as_the_most_unusual() -> None:
    found = Calibration(np.array([0.1]), np.array([0.01]), np.array([0.02]), 0.9, np.full(5, 0.9), 0.0)
    assert found.estimate(np.array([[0.11], [0.13], [5.0], [-5.0]])) == pytest.approx([0.92, 0.96, 0.96, 0.84])
