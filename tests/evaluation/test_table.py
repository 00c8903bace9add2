import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.label_sets import ARTERY, CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.errors import InputError
from renalnet.evaluation.rows import MEASURES
from renalnet.evaluation.table import detect, evaluation, measure, measured_labels, summarise

SPACING = (2.0, 0.5, 1.0)


def case(tumor=True, miss=False, alarm=False):
    """Return a kidney of 4x4x4 voxels with a tumor in its upper slice. The prediction has only the errors named."""
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    if tumor:
        truth[5, 2:6, 2:6] = 2
    pred = truth.copy()
    pred[pred == 2] = 1 if miss else 2
    if alarm:
        pred[2, 2, 2] = 2
    return truth, pred


def rows_of(**kwargs):
    return measure(*case(**kwargs), SPACING, KIDNEY_TUMOR)


def test_a_perfect_prediction():
    kidney, tumor, *_ = rows_of()
    assert (kidney.label, tumor.label) == ("kidney", "tumor")
    for row in (kidney, tumor):
        assert (row.dice, row.surface_dice, row.surface_distance_mm, row.hd95_mm) == (1, 1, 0, 0)
    assert (kidney.volume_truth_ml, tumor.volume_pred_ml) == pytest.approx((0.048, 0.016))
    assert (kidney.found, tumor.found) == (None, True)


def test_a_missed_tumor_by_hand():
    kidney, tumor, *_ = rows_of(miss=True)
    assert kidney.dice == pytest.approx(2 * 48 / (48 + 64))
    assert [getattr(kidney, n) for n in ("true_positive", "false_positive", "false_negative", "true_negative")] == [
        48, 16, 0, 448,
    ]  # fmt: skip
    assert (tumor.dice, tumor.surface_dice, tumor.found, tumor.pred_empty) == (0, 0, False, True)
    assert tumor.surface_distance_mm == pytest.approx(math.hypot(16, 4, 8))
    assert tumor.surface_distance_px == pytest.approx(math.hypot(8, 8, 8))
    # The predicted kidney has 56 surface voxels, of which 16 are one slice of 2 mm too high. The truth has 44: the four
    # inner ones of its upper slice are inside the prediction, 0.5 mm from its surface.
    assert kidney.surface_distance_mm == pytest.approx((16 * 2.0 + 4 * 0.5) / 100)
    assert kidney.surface_dice == pytest.approx(84 / 100)


def test_a_healthy_kidney():
    tumor = rows_of(tumor=False)[1]
    assert (tumor.truth_empty, tumor.pred_empty, tumor.found) == (True, True, None)
    assert (tumor.dice, tumor.surface_distance_mm, tumor.surface_dice) == (1, 0, 1)


def test_shapes_must_match():
    truth, pred = case()
    with pytest.raises(InputError, match="one grid"):
        measure(truth, pred[1:], SPACING, KIDNEY_TUMOR)


def test_summary_by_hand():
    summary = summarise([*rows_of(), *rows_of(miss=True), *rows_of(tumor=False)], KIDNEY_TUMOR)["tumor"]
    assert (summary["num_cases"], summary["num_truth_empty"], summary["num_pred_empty"]) == (3, 1, 2)
    assert summary["mean"]["dice"] == pytest.approx(2 / 3)
    assert summary["sd"]["dice"] == pytest.approx(math.sqrt(1 / 3))
    assert set(summary["mean"]) == set(summary["sd"]) == set(MEASURES)


def test_summary_of_one_and_of_none():
    assert summarise(rows_of(), KIDNEY_TUMOR)["kidney"]["sd"]["dice"] is None
    nothing = summarise([], KIDNEY_TUMOR)["kidney"]
    assert (nothing["num_cases"], nothing["mean"]["dice"], nothing["sd"]["dice"]) == (0, None, None)


def test_detection_by_hand():
    cohort = [rows_of(), rows_of(miss=True), rows_of(tumor=False), rows_of(tumor=False, alarm=True)]
    voxel, by_patient = detect([row for case in cohort for row in case])
    assert voxel.sensitivity.value == pytest.approx(16 / 32)
    assert voxel.specificity.value == pytest.approx(1 - 1 / (2 * 496 + 2 * 512))
    assert (by_patient.sensitivity.successes, by_patient.sensitivity.total) == (1, 2)
    assert (by_patient.specificity.successes, by_patient.specificity.total) == (1, 2)


def test_a_false_alarm_can_be_forgiven():
    rows = rows_of(tumor=False, alarm=True)  # one voxel, 0.001 ml
    assert detect(rows, min_volume_ml=0.002)[1].specificity.value == 1
    assert detect(rows)[1].specificity.value == 0


def test_evaluation_is_what_other_programs_read():
    result = evaluation({"a": rows_of(), "b": rows_of(tumor=False, alarm=True)}, KIDNEY_TUMOR)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result) == {"cases", "summary", "detection"}
    assert list(result["cases"]["a"]) == ["kidney", "tumor", "kidney_and_mass", "mass"]
    assert set(MEASURES) <= set(result["cases"]["b"]["tumor"])
    assert result["detection"]["patient"]["sensitivity"] == {
        "value": 1.0, "low": pytest.approx(0.2065, abs=1e-4), "high": 1.0, "successes": 1, "total": 1,
    }  # fmt: skip


def test_evaluation_of_nothing():
    result = evaluation({}, KIDNEY_TUMOR)
    assert result["cases"] == {}
    assert result["detection"]["voxel"]["specificity"]["value"] is None


def test_the_classes_of_the_challenge_by_hand():
    kidney, tumor, both, mass = rows_of(miss=True)
    assert [row.label for row in (kidney, tumor, both, mass)] == ["kidney", "tumor", "kidney_and_mass", "mass"]
    assert (both.dice, both.surface_distance_mm, both.surface_dice) == (1, 0, 1)  # the tumor called kidney
    assert both.volume_truth_ml == pytest.approx(0.064)
    assert replace(mass, label="tumor", surface_dice=tumor.surface_dice) == tumor


def test_a_mass_has_a_tolerance_of_its_own():
    truth, pred = (np.zeros((4, 4, 4), np.uint8) for _ in range(2))
    truth[1, 1, 1] = 2
    pred[1, 1, 2] = 2  # 1.14 mm apart
    _, tumor, both, mass = measure(truth, pred, (2.0, 2.0, 1.14), KIDNEY_TUMOR)
    assert (tumor.surface_dice, mass.surface_dice, both.surface_dice) == (1, 0, 0)


def test_errors_of_volumes():
    kidney, tumor, *_ = rows_of(miss=True)
    assert (kidney.volume_error_ml, kidney.volume_error_share) == pytest.approx((0.016, 1 / 3))
    assert (tumor.volume_error_ml, tumor.volume_error_share) == pytest.approx((-0.016, -1))
    assert rows_of(tumor=False, alarm=True)[1].volume_error_share is None


def case_with_cyst(*, tumor_is_cyst=False, cyst_is_missed=False, cyst=True):
    """Return a kidney of 4x4x4 voxels with a tumor in its upper and a cyst in its lower slice."""
    truth = case()[0]
    if cyst:
        truth[2, 2:6, 2:6] = CYST
    pred = truth.copy()
    if tumor_is_cyst:
        pred[truth == 2] = CYST
    if cyst_is_missed:
        pred[truth == CYST] = 1
    return truth, pred


def test_mass_and_kidney_with_cysts_by_hand():
    """The tumor is called a cyst: 16 voxels of each, so that the predicted cyst has 32."""
    rows = measure(*case_with_cyst(tumor_is_cyst=True), SPACING, KITS23)
    assert [row.label for row in rows] == ["kidney", "tumor", "cyst", "kidney_and_mass", "mass"]
    assert [row.dice for row in rows] == pytest.approx([1, 0, 2 * 16 / (16 + 32), 1, 1])
    assert [row.volume_truth_ml for row in rows] == pytest.approx([0.032, 0.016, 0.016, 0.064, 0.032])
    assert [row.volume_pred_ml for row in rows] == pytest.approx([0.032, 0, 0.032, 0.064, 0.032])
    assert [row.found for row in rows] == [None, False, True, None, True]
    assert rows[2].surface_distance_mm == pytest.approx(16 * 6 / 48)  # from the upper slice to the lower one
    assert measured_labels(KITS23) == tuple(row.label for row in rows)


def test_vessels_are_no_part_of_kidney_or_mass():
    truth, pred = case_with_cyst()
    truth[0, 0], pred[0, 1] = ARTERY, VEIN
    rows = {row.label: row for row in measure(truth, pred, SPACING, VESSELS)}
    assert tuple(rows) == (*VESSELS.names, "kidney_and_mass", "mass")
    assert [rows[name].dice for name in rows] == [1, 1, 1, 0, 0, 1, 1]
    volumes_ml = {name: row.volume_truth_ml for name, row in rows.items()}
    assert (volumes_ml["renal_artery"], rows["renal_vein"].volume_pred_ml) == pytest.approx((0.008, 0.008))
    assert (volumes_ml["kidney_and_mass"], volumes_ml["mass"]) == pytest.approx((0.064, 0.032))
    assert (rows["renal_artery"].found, rows["cyst"].found) == (None, True)


def test_a_cyst_has_the_tolerance_of_a_mass():
    truth, pred = (np.zeros((4, 4, 4), np.uint8) for _ in range(2))
    truth[1, 1, 1] = pred[1, 1, 2] = CYST
    near, far = (measure(truth, pred, (2.0, 2.0, mm), KITS23)[2] for mm in (1.13, 1.14))
    assert (near.label, near.surface_dice, far.surface_dice) == ("cyst", 1, 0)


def test_detection_by_lesion():
    cohort = {
        "found": measure(*case_with_cyst(), SPACING, KITS23),
        "missed": measure(*case_with_cyst(cyst_is_missed=True), SPACING, KITS23),
        "alarm": measure(*case_with_cyst(cyst=False, tumor_is_cyst=True), SPACING, KITS23),
        "none": measure(*case_with_cyst(cyst=False), SPACING, KITS23),
    }
    voxel, by_patient = detect([row for rows in cohort.values() for row in rows], "cyst")
    assert (voxel.sensitivity.successes, voxel.sensitivity.total) == (16, 32)
    assert (voxel.specificity.successes, voxel.specificity.total) == (2 * 496 + 2 * 512 - 16, 2 * 496 + 2 * 512)
    assert (by_patient.sensitivity.successes, by_patient.sensitivity.total) == (1, 2)
    assert (by_patient.specificity.successes, by_patient.specificity.total) == (1, 2)
    result = evaluation(cohort, KITS23)
    assert result["detection"]["patient"]["sensitivity"]["successes"] == 3  # the alarm is a tumor called cyst
    assert list(result["other_lesions"]) == ["cyst"]
    assert result["other_lesions"]["cyst"]["patient"]["sensitivity"]["value"] == 0.5
    assert list(result["summary"]) == ["kidney", "tumor", "cyst", "kidney_and_mass", "mass"]
    assert result["summary"]["cyst"]["num_truth_empty"] == 2
