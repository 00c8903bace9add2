import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.fake_results import CASES, MARKUP_CASE, SHAPE, trial_rows, write_rows

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from study.records.content import load_results, load_view
from study.records.results import Results


def test_a_finished_study_is_read_completely(finished_study: Path) -> None:
    results = load_results(Results(str(finished_study)))
    assert results.manifest.data.synthetic
    assert [trial.state for trial in results.trials or []].count("pruned") == 2
    assert len(results.epochs or []) == sum(row["epochs"] for row in trial_rows())
    assert sorted(results.view_cases) == sorted(CASES)


def test_nulls_of_a_failed_trial_become_none(finished_study: Path) -> None:
    failed = next(trial for trial in load_results(Results(str(finished_study))).trials or [] if trial.state == "failed")
    assert failed.objective is None
    assert failed.best_epoch is None


def test_what_a_running_study_lacks_is_none(running_study: Path) -> None:
    results = load_results(Results(str(running_study)))
    assert results.measurements is None
    assert results.view_cases == []


def test_a_nan_counts_as_null(running_study: Path) -> None:
    rows = trial_rows()
    rows[0]["objective"] = float("nan")
    write_rows(running_study / "trials.parquet", rows)
    trials = load_results(Results(str(running_study))).trials or []
    assert trials[0].objective is None


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"is no results folder: no readable manifest\.json"):
        load_results(Results(str(tmp_path)))


def test_a_store_is_no_results_folder(ball_store: Store) -> None:
    with pytest.raises(
        ResultsError, match=r"is no results folder: its manifest\.json names no study, as that of a store"
    ):
        load_results(Results(ball_store.path))


def test_a_manifest_of_wrong_types_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"study": "quick", "durations_s": {"search": "long"}}))
    with pytest.raises(ResultsError, match=r"durations_s\.search"):
        load_results(Results(str(tmp_path)))


def test_missing_columns_are_named(running_study: Path) -> None:
    write_rows(running_study / "trials.parquet", [{"trial": 1, "name": "a", "network": "unet3d"}])
    with pytest.raises(ResultsError, match="no value for state"):
        load_results(Results(str(running_study)))


def test_damaged_parquet_is_named(running_study: Path) -> None:
    (running_study / "curves.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ResultsError, match=r"curves\.parquet is not readable Parquet"):
        load_results(Results(str(running_study)))


def test_a_view_holds_the_arrays_of_each_network(finished_study: Path) -> None:
    view = load_view(load_results(Results(str(finished_study))), MARKUP_CASE)
    assert set(view.predictions) == {"fcn_ppm", "unet3d", "pspnet2d"}
    assert view.truth.shape == SHAPE
    assert view.spacing_mm == (3.0, 1.3, 1.3)


def test_a_view_of_two_shapes_is_refused(finished_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_study, tmp_path / "copy")
    image, truth = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 5), np.uint8)
    np.savez(copy / "final" / "views" / "odd.npz", image=image, truth=truth, spacing_mm=np.ones(3))
    with pytest.raises(ResultsError, match="must be one shape"):
        load_view(load_results(Results(str(copy))), "odd")
