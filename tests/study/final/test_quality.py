"""Quality estimates and planning sheets of the winner's masks, from the files that the final stage writes."""

import inspect
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.store.reader import Store
from renalnet.evaluation.mask_quality import MIN_CASES, Signs, signs_of
from renalnet.runtime import storage
from study.final.case_jobs import FinalCase
from study.final.planning import planning_sheets
from study.final.quality import learned_quality, quality_rows
from study.finalists.finalists import Finalist
from study.records.parquet import read_parquet, write_rows
from study.records.results import Results
from study.records.tables import Measurement

WINNER, OTHER = (Finalist("fcn_ppm", f"fcn_ppm-000{number}", (), "0123abcd") for number in range(2))
SPACING_MM = (1.0, 1.0, 1.0)


def masks(overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the winner's tumor of ten voxels, and another finalist's tumor that shares some of them."""
    own, other = np.ones((2, 4, 12, 12), dtype=np.uint8)
    own[1, 1, :10] = 2
    other[1, 1, :overlap] = 2
    other[2, 2, : 10 - overlap] = 2
    return own, other


def write_masks(results: Results, case: str, overlap: int) -> None:
    for finalist, labels in zip((WINNER, OTHER), masks(overlap), strict=True):
        storage.write_arrays(results.roi_labels_path(finalist.name, case), {"labels": labels})
        probability = np.stack([labels == label for label in range(3)]).astype(np.float32)
        signs = signs_of(probability, labels, labels, SPACING_MM, KIDNEY_TUMOR)
        storage.write_json(results.signs_path(finalist.name, case), asdict(signs))


def measurement(case: str, split: str, stage: str, label: str, dice: float) -> Measurement:
    """Return a row in which only the Dice is plausible."""
    columns = dict.fromkeys(inspect.signature(Measurement).parameters, 0)
    about = {"case": case, "split": split, "network": "fcn_ppm", "checkpoint": WINNER.name, "role": "winner"}
    return Measurement(**{**columns, **about, "stage": stage, "label": label, "dice": dice})


def study(results: Results, num_validation: int) -> list[Measurement]:
    """Write cases whose Dice is the share of voxels that both masks have in common; validation cases come first."""
    rows = []
    for number in range(num_validation + 3):
        overlap = 3 * number % 10
        write_masks(results, f"case_{number}", overlap)
        split = "validation" if number < num_validation else "test"
        rows += [
            measurement(f"case_{number}", split, stage, label, overlap / 10)
            for stage in ("network", "final")
            for label in ("kidney", "tumor")
        ]
    return rows


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(str(tmp_path))


def test_agreement_is_learned_on_validation_cases(results: Results) -> None:
    rows = quality_rows(results, WINNER, [OTHER], study(results, 8), KIDNEY_TUMOR)
    assert [row.split for row in rows] == ["validation"] * 8 + ["test"] * 3
    for number, row in enumerate(rows):
        assert row.agreement == pytest.approx(3 * number % 10 / 10)
        assert row.expected_dice == pytest.approx(row.agreement, abs=0.08)
    assert {row.num_known for row in rows} == {8}
    assert rows[0].expected_error < 0.08


def test_the_truth_of_test_cases_is_not_read(results: Results) -> None:
    measured = study(results, 8)
    expected = quality_rows(results, WINNER, [OTHER], measured, KIDNEY_TUMOR)
    changed = [replace(row, dice=0.123) if row.split == "test" else row for row in measured]
    assert quality_rows(results, WINNER, [OTHER], changed, KIDNEY_TUMOR) == expected


def test_without_other_finalists_there_is_no_agreement(results: Results) -> None:
    rows = quality_rows(results, WINNER, [], study(results, 6), KIDNEY_TUMOR)
    write_rows(results.quality_path, rows)
    columns = read_parquet(results.quality_path)
    assert len(rows) == len(columns) == 9 and "agreement" not in columns[0]
    assert results.quality() == rows


class LocalJobs:
    """Runs jobs in this process."""

    def apply(self, function: Any, jobs: Any) -> Any:
        return map(function, jobs)


def test_planning_sheets_spread_over_the_finalists(ball_store: Store, results: Results) -> None:
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    smaller = roi.label.copy()
    smaller[: len(smaller) // 2][smaller[: len(smaller) // 2] == 2] = 1
    for name, labels in ((WINNER.name, roi.label), (OTHER.name, smaller)):
        storage.write_arrays(results.roi_labels_path(name, case), {"labels": labels})
    winners = FinalCase(results, ball_store.path, case, WINNER, KIDNEY_TUMOR)
    truth, prediction = planning_sheets([winners], [OTHER.name], LocalJobs())
    assert (truth.source, prediction.source) == ("truth", "prediction")
    assert prediction.tumor_ml == truth.tumor_ml and truth.spread == "{}"
    low, high = json.loads(prediction.spread)["tumor_ml"]
    assert low < high == pytest.approx(truth.tumor_ml)
    (_, alone) = planning_sheets([winners], [], LocalJobs())
    assert alone.spread == "{}" and alone.warnings.startswith(f"kidney of {alone.kidney_ml:.1f} ml, outside the")


def test_few_validation_cases_give_no_estimate(results: Results) -> None:
    assert quality_rows(results, WINNER, [OTHER], study(results, MIN_CASES - 1), KIDNEY_TUMOR) == []


def test_a_bundle_learns_from_the_signs_of_validation_cases(results: Results) -> None:
    """All masks have the same signs, so the estimate is the mean Dice.

    The tumor's are 0, 0.3, 0.6, 0.9, 0.2, 0.5, 0.8 and 0.1. A case that is left out has the error |8 · Dice - 3.4| / 7.
    """
    measured = study(results, 8)
    rows = [replace(row, dice=0.9) if row.label == "kidney" else row for row in measured]
    rows = [replace(row, dice=0.123) if row.split == "test" else row for row in rows]
    learned = learned_quality(results, WINNER, rows, study="quick", synthetic=False)
    assert learned is not None and learned.num_known == 8
    found = learned.estimate(Signs(**storage.read_json(results.signs_path(WINNER.name, "case_9"))))
    assert asdict(found) == {
        "dice_kidney": pytest.approx(0.9),
        "dice_tumor": pytest.approx(3.4 / 8),
        "error_kidney": pytest.approx(0, abs=1e-9),
        "error_tumor": pytest.approx(17.6 / 56),
        "calibrated_on": "8 validation cases of study 'quick'",
    }


def test_a_bundle_learns_nothing_from_few_validation_cases(results: Results) -> None:
    rows = study(results, MIN_CASES - 1)
    assert learned_quality(results, WINNER, rows, study="quick", synthetic=False) is None
    assert learned_quality(results, WINNER, [], study="quick", synthetic=False) is None
