"""A results folder: its paths, its tables as rows, and the columns of the files."""

import pickle
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.fake_results import (
    CASES,
    curve_rows,
    importance_rows,
    metric_rows,
    plan_rows,
    quality_rows,
    selection,
    trial_rows,
    write_manifest,
    write_rows,
)
from support.study_records import keep_trial

from renalnet.errors import ResultsError
from renalnet.evaluation.rows import LabelMeasures
from renalnet.runtime import storage
from study.records import parquet
from study.records.parquet import read_parquet
from study.records.results import Results
from study.records.tables import (
    Effect,
    Epoch,
    Importance,
    InteractionCell,
    Measurement,
    PlanningSheet,
    Quality,
    StageMeasurement,
    Trial,
)
from study.records.trials import write_tables

MEASURES = [each.name for each in fields(LabelMeasures)]
IMPORTANCE = ["network", "evaluator", "num_trials", "parameter", "importance"]
MEAN = ["mean_objective", "low", "high", "num_trials"]
PLACE = ["case", "split", "network", "checkpoint", "stage"]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(str(tmp_path))


@pytest.mark.parametrize(
    ("row_type", "columns"),
    [
        (Importance, [*IMPORTANCE, "low", "high", "p_value", "needed_trials", "verdict"]),
        (Effect, ["network", "parameter", "group", "group_low", "group_high", *MEAN, "num_pruned"]),
        (InteractionCell, ["network", "first", "second", "first_group", "second_group", *MEAN, "share", "p_value"]),
        (StageMeasurement, [*PLACE, *MEASURES]),
        (Measurement, [*PLACE, *MEASURES, "role"]),
    ],
)
def test_columns_are_the_fields_in_their_order(row_type: type, columns: list[str]) -> None:
    assert [each.name for each in fields(row_type)] == columns


@pytest.mark.parametrize(
    ("row_type", "first", "last"),
    [
        (Trial, ["trial", "name", "network", "state"], ["config", "repeat_of", "seed", "fold"]),
        (
            Epoch,
            ["trial", "name", "network", "repeat_of", "seed", "fold", "epoch", "loss"],
            ["learning_rate", "seconds", "data_wait_share", "voxels_per_s"],
        ),
        (
            Quality,
            ["case", "split", "checkpoint", "expected_dice_kidney"],
            ["border", "agreement", "expected_dice", "expected_error", "num_known"],
        ),
        (
            PlanningSheet,
            ["case", "checkpoint", "source", "side", "kidney_ml"],
            ["padua_sum_high", "spread", "warnings"],
        ),
    ],
)
def test_columns_of_a_base_class_are_between_the_others(row_type: type, first: list[str], last: list[str]) -> None:
    names = [each.name for each in fields(row_type)]
    assert names[: len(first)] == first and names[-len(last) :] == last


def test_tables_have_these_columns(results: Results) -> None:
    keep_trial(Path(results.folder), "fcn_ppm", 0, [0.1, 0.5])
    write_tables(results)
    # Other programs read these names, so they are stated here and not taken from the dataclasses.
    assert pq.read_schema(results.trials_path).names == [
        *("trial", "name", "network", "state", "objective", "dice_kidney", "dice_tumor", "best_epoch", "epochs"),
        *("planned_epochs", "seconds", "gpu_hours", "cpu_hours", "reason", "is_paper_point", "ppm_kernels"),
        *("weight_tumor", "weight_kidney", "weight_background", "milestones", "config", "repeat_of", "seed", "fold"),
    ]
    assert pq.read_schema(results.curves_path).names == [
        *("trial", "name", "network", "repeat_of", "seed", "fold", "epoch", "loss", "dice_kidney", "dice_tumor"),
        *("objective", "learning_rate", "seconds", "data_wait_share", "voxels_per_s"),
    ]


@pytest.mark.slow
def test_tables_are_read_as_rows(results: Results) -> None:
    folder = Path(results.folder)
    write_manifest(folder)
    write_rows(folder / "trials.parquet", trial_rows())
    write_rows(folder / "curves.parquet", curve_rows())
    write_rows(folder / "importances.parquet", importance_rows())
    write_rows(folder / "final" / "metrics.parquet", metric_rows())
    write_rows(folder / "final" / "quality.parquet", quality_rows())
    write_rows(folder / "final" / "plan.parquet", plan_rows())
    assert [trial.network for trial in results.trials() or []] == [row["network"] for row in trial_rows()]
    assert [epoch.objective for epoch in results.epochs() or []] == [row["objective"] for row in curve_rows()]
    assert [row.importance for row in results.importances()] == [0.6, 0.3, 0.1]
    assert len(results.measurements() or []) == len(metric_rows())
    assert {row.case for row in results.quality()} == {*CASES, "case_00099"}
    assert {row.source for row in results.planning()} == {"truth", "prediction"}
    assert results.manifest().study == "quick"


def test_missing_files_are_none_or_empty(results: Results) -> None:
    assert (results.trials(), results.epochs(), results.measurements()) == (None, None, None)
    assert (results.importances(), results.quality(), results.planning()) == ([], [], [])
    assert results.selection().finalists == {}
    with pytest.raises(ResultsError, match=r"no readable manifest\.json"):
        results.manifest()


def test_the_selection_keeps_its_keys(results: Results) -> None:
    storage.write_json(results.selection_path, selection())
    (name, entry), *_ = results.selection().finalists.items()
    assert name == selection()["winner"] and len(entry.members) == 2 and results.selection().is_repeated


def test_importances_of_an_earlier_version_are_read(results: Results) -> None:
    old = {"network": "fcn_ppm", "evaluator": "PED-ANOVA", "num_trials": 4, "parameter": "width", "importance": 0.25}
    write_rows(Path(results.importances_path), [old])
    assert results.importances() == [Importance("fcn_ppm", "PED-ANOVA", 4, "width", 0.25)]
    assert (results.importances()[0].verdict, results.effects(), results.interactions()) == ("", [], [])


def test_rows_are_read_back_equal(results: Results) -> None:
    rows = [Importance("fcn_ppm", "PED-ANOVA", 4, "tumor_weight", 0.25)]
    parquet.write_rows(results.importances_path, rows)
    assert results.importances() == rows
    parquet.write_rows(results.importances_path, [])
    assert results.importances() == [] and read_parquet(results.importances_path) == []


def test_paths_are_below_the_folder_and_keep_the_query_of_a_uri() -> None:
    results = Results("s3://bucket/study?region=eu-west-1")
    assert results.trial_record_path("a-0001") == "s3://bucket/study/trials/a-0001/trial.json?region=eu-west-1"
    assert results.mask_path("a-0001", "case") == "s3://bucket/study/final/masks/a-0001/case.nii.gz?region=eu-west-1"
    assert f"{results}" == "s3://bucket/study?region=eu-west-1"


def test_results_are_sent_to_other_processes(results: Results) -> None:
    assert pickle.loads(pickle.dumps(results)) == results
