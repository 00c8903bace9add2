"""Estimates of the winner's masks from the files that the final stage leaves."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.data.store.reader import Store
from renalnet.evaluation.mask_quality import MIN_PATIENTS, signs_of
from renalnet.runtime import storage
from study.final.case_jobs import FinalCase
from study.final.planning import plan_rows
from study.final.quality import quality_rows
from study.finalists.finalists import Finalist
from study.records import paths

WINNER, RIVAL = (Finalist("fcn_ppm", f"fcn_ppm-000{number}", (), "0123abcd") for number in range(2))
SPACING_MM = (1.0, 1.0, 1.0)


def masks(overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """The winner's tumor of ten voxels, and a rival's that shares some of them."""
    own, other = np.ones((2, 4, 12, 12), dtype=np.uint8)
    own[1, 1, :10] = 2
    other[1, 1, :overlap] = 2
    other[2, 2, : 10 - overlap] = 2
    return own, other


def write(results: str, case: str, overlap: int) -> None:
    for candidate, labels in zip((WINNER, RIVAL), masks(overlap), strict=True):
        storage.write_arrays(paths.roi_labels_path(results, candidate.name, case), {"labels": labels})
        probability = np.stack([labels == label for label in range(3)]).astype(np.float32)
        signs = signs_of(probability, labels, labels, SPACING_MM)
        storage.write_json(paths.signs_path(results, candidate.name, case), asdict(signs))


def study(results: Path, num_validation: int) -> list[dict[str, Any]]:
    """Patients whose Dice is what the rival's mask shares with the winner's; validation patients first."""
    rows = []
    for number in range(num_validation + 3):
        overlap = 3 * number % 10
        write(str(results), f"case_{number}", overlap)
        split = "validation" if number < num_validation else "test"
        about = {"case": f"case_{number}", "split": split, "checkpoint": WINNER.name}
        rows += [
            {**about, "stage": stage, "label": label, "dice": overlap / 10}
            for stage in ("network", "final")
            for label in ("kidney", "tumor")
        ]
    return rows


def test_agreement_is_learned_on_validation_patients(tmp_path: Path) -> None:
    rows = quality_rows(str(tmp_path), WINNER, [RIVAL], study(tmp_path, 8))
    assert [row["split"] for row in rows] == ["validation"] * 8 + ["test"] * 3
    for number, row in enumerate(rows):
        assert row["agreement"] == pytest.approx(3 * number % 10 / 10)
        assert row["expected_dice"] == pytest.approx(row["agreement"], abs=0.08)
    assert {row["num_known"] for row in rows} == {8}
    assert rows[0]["expected_error"] < 0.08


def test_the_test_patients_truth_is_not_looked_at(tmp_path: Path) -> None:
    measured = study(tmp_path, 8)
    told = quality_rows(str(tmp_path), WINNER, [RIVAL], measured)
    changed = [row | {"dice": 0.123} if row["split"] == "test" else row for row in measured]
    assert quality_rows(str(tmp_path), WINNER, [RIVAL], changed) == told


def test_without_other_finalists_there_is_no_agreement(tmp_path: Path) -> None:
    rows = quality_rows(str(tmp_path), WINNER, [], study(tmp_path, 6))
    assert len(rows) == 9 and "agreement" not in rows[0]


class HereAndNow:
    """Applies a function without a cluster."""

    def apply(self, function: Any, jobs: Any) -> Any:
        return map(function, jobs)


def test_planning_sheets_spread_over_the_finalists(ball_store: Store, tmp_path: Path) -> None:
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    smaller = roi.label.copy()
    smaller[: len(smaller) // 2][smaller[: len(smaller) // 2] == 2] = 1
    for name, labels in ((WINNER.name, roi.label), (RIVAL.name, smaller)):
        storage.write_arrays(paths.roi_labels_path(str(tmp_path), name, case), {"labels": labels})
    patient = FinalCase(str(tmp_path), ball_store.path, case, WINNER)
    truth, prediction = plan_rows([patient], [RIVAL.name], HereAndNow())
    assert (truth["source"], prediction["source"]) == ("truth", "prediction")
    assert prediction["tumor_ml"] == truth["tumor_ml"] and truth["spread"] == "{}"
    low, high = json.loads(prediction["spread"])["tumor_ml"]
    assert low < high == pytest.approx(truth["tumor_ml"])
    (_, alone) = plan_rows([patient], [], HereAndNow())
    assert alone["spread"] == "{}"


def test_few_validation_patients_give_no_estimate(tmp_path: Path) -> None:
    assert quality_rows(str(tmp_path), WINNER, [RIVAL], study(tmp_path, MIN_PATIENTS - 1)) == []
