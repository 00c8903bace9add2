"""Real studies on a real local Ray, started from the command line."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from support.study_command import ONE_AT_A_TIME, command, copy_study, rows, run

from renalnet.data.images.volume import grid_difference, read_volume
from renalnet.data.store.reader import Store
from renalnet.inference.pipeline import load_bundle
from renalnet.inference.quality_file import QUALITY_FILE, BundleQuality, read_quality
from study.config.sections import StudyConfig
from study.progress.forecast import disk_bytes
from study.progress.trial_cost import MeasureJob, measure_study
from study.records.results import Results
from study.report.analysis.contents import analyse
from study.report.analysis.statistics import Settings

pytestmark = pytest.mark.slow  # the study that they share takes about a minute


def test_every_trial_is_accounted_for(finished: Path) -> None:
    trials = rows(finished / "trials.parquet")
    assert sorted(str(trial["name"]) for trial in trials) == [
        *(f"fcn_ppm-{number:04d}" for number in range(4)),
        "pspnet2d-0000",
        "unet3d-0000",
    ]
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert all(trial["reason"] for trial in trials)
    paper = next(trial for trial in trials if trial["name"] == "fcn_ppm-0000")
    assert paper["is_paper_point"] and (paper["weight_tumor"], paper["milestones"]) == (2.0, "3-5-7")


def test_curves_hold_every_epoch(finished: Path) -> None:
    epochs = {trial["name"]: trial["epochs"] for trial in rows(finished / "trials.parquet")}
    curves = rows(finished / "curves.parquet")
    assert {name: sum(row["name"] == name for row in curves) for name in epochs} == epochs
    assert all(np.isfinite(float(str(row["objective"]))) for row in curves)


def test_optuna_opens_the_journal(finished: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(finished / "optuna.journal")))
    study = optuna.load_study(study_name="fcn_ppm", storage=storage)
    states = {
        trial["trial"]: trial["state"] for trial in rows(finished / "trials.parquet") if trial["network"] == "fcn_ppm"
    }
    assert {trial.number: trial.state.name.lower() for trial in study.trials} == states


def test_winner_is_the_best_on_validation(finished: Path) -> None:
    selection = json.loads((finished / "final" / "selection.json").read_text())
    ours = {name: score for name, score in selection["scores"].items() if name.startswith("fcn_ppm")}
    assert selection["winner"] == max(ours, key=lambda name: ours[name])
    assert json.loads((finished / "manifest.json").read_text())["finished"]


def test_metrics_hold_every_stage_of_every_test_patient(finished: Path) -> None:
    metrics = [row for row in rows(finished / "final" / "metrics.parquet") if row["split"] == "test"]
    winner = [row for row in metrics if row["role"] == "winner"]
    assert {(row["case"], row["stage"], row["label"]) for row in winner} == {
        (case, stage, label)
        for case in ("case_00006", "case_00007")
        for stage in ("network", "crf", "connectivity", "crf_connectivity", "final")
        for label in ("kidney", "tumor", "kidney_and_mass", "mass")
    }
    assert {row["network"] for row in metrics} == {"fcn_ppm", "unet3d", "pspnet2d", "threshold_roi", "threshold_inside"}


def test_masks_lie_on_the_source_grid(finished: Path, ball_store: Store) -> None:
    masks = sorted((finished / "final" / "masks").glob("*/*.nii.gz"))
    assert len(masks) >= 2 * 3
    for path in masks:
        source = ball_store.entry(path.name.removesuffix(".nii.gz")).source
        assert grid_difference(read_volume(path).grid, source) is None


def test_best_folder_is_a_model(finished: Path) -> None:
    model = load_bundle(str(finished / "best"))
    # Too few validation cases to learn from, and a store without facts of its cases.
    assert (finished / "best" / QUALITY_FILE).exists() and read_quality(finished / "best") == BundleQuality()
    assert model.config.train.net.name == "fcn_ppm"
    card = (finished / "best" / "README.md").read_text()
    assert "Research software, not a" in card
    assert "\n## Test cases, after the whole inference\n\n- post-processing: " in card
    _, front, _ = card.split("---\n", 2)
    (model,) = yaml.safe_load(front)["model-index"]
    metrics = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    # Both test cases have a tumor.
    assert metrics.keys() == {"Dice kidney", "Dice tumor, cases with one", "Sensitivity tumor"}
    assert all(0 <= value <= 1 for value in metrics.values())


def test_the_card_and_the_report_have_the_same_headline(finished: Path) -> None:
    report = analyse(Results(str(finished)), Settings())
    standing = report.summary.winner_standing
    assert standing is not None
    card = (finished / "best" / "README.md").read_text()
    assert f"- {standing.headlines['tumor'].text}\n" in card
    assert card.count("**Warning: the study has failed") == len(report.summary.failures)
    assert set(report.summary.failures) <= set(report.content.manifest.warnings)


def test_the_papers_point_is_tested_beside_the_winner(finished: Path) -> None:
    """The tiny study starts from the paper's weights and milestones."""
    trials = {row["name"]: row for row in rows(finished / "trials.parquet")}
    paper = trials["fcn_ppm-0000"]
    assert (paper["is_paper_point"], paper["state"], paper["epochs"]) == (True, "complete", paper["planned_epochs"])
    report = analyse(Results(str(finished)), Settings())
    winner = report.summary.winner
    assert winner is not None
    others = {margin.other.role for margin in report.summary.margins}
    assert ("paper" in others) != winner.is_paper_point


def test_planning_sheets_and_importances_are_written(finished: Path) -> None:
    sheets = rows(finished / "final" / "plan.parquet")
    truths = {row["case"] for row in sheets if row["source"] == "truth"}
    assert truths == {"case_00006", "case_00007"}
    assert all(row["kidney_ml"] >= 0 and row["kidney_length_mm"] > 0 for row in sheets)
    verdicts = {row["verdict"] for row in rows(finished / "importances.parquet")}
    assert verdicts and all(text.startswith("not enough trials: ") for text in verdicts)
    assert rows(finished / "effects.parquet") == rows(finished / "interactions.parquet") == []
    page = (finished / "report.html").read_text()
    assert all(text in page for text in verdicts)
    assert rows(finished / "final" / "quality.parquet") == []  # too few validation patients


def test_report_is_shown_and_written(finished: Path) -> None:
    terminal = (finished / "terminal.txt").read_text()
    assert "Table I" in terminal and "0.931" in terminal and "report.html" in terminal
    assert "<html" in (finished / "report.html").read_text()


def test_the_log_reports_each_stage(finished: Path) -> None:
    log = (finished / "log.txt").read_text()
    assert log.index("trials to run") < log.index("final stage: full inference") < log.index("writing the report")


def test_same_command_again_trains_nothing(finished: Path, ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    results = copy_study(finished, tmp_path / "results")
    before = (results / "optuna.journal").read_bytes()
    done = run(command(ball_store, tiny_file, results, *ONE_AT_A_TIME))
    assert done.returncode == 0, done.stderr
    assert "trials to run" not in done.stderr
    # It says what it does before the first trial.
    cases = "cases: 4 train, 2 validation, 2 test"
    steps = ("study of preset quick in ", cases, "validation cases, fewer than 5", "Ray is ready")
    places = [done.stderr.find(step) for step in steps]
    assert places[0] > -1 and places == sorted(places) and "writing the report" in done.stderr, done.stderr
    assert (results / "optuna.journal").read_bytes()[: len(before)] == before
    assert "Table I" in done.stdout


def test_another_study_in_the_folder_is_refused(finished: Path, ball_store: Store, tiny_file: Path) -> None:
    done = run(command(ball_store, tiny_file, finished, "--set", "seed=5"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "holds another study" in done.stderr


def test_the_disk_forecast_is_met(finished: Path, ball_store: Store, tiny_study: StudyConfig) -> None:
    widths = json.loads((finished / "manifest.json").read_text())["widths"]
    measured = measure_study(MeasureJob(tiny_study, widths, ball_store.path, num_threads=1))
    disk = disk_bytes(tiny_study, measured, num_slots=0)
    weights = num_bytes(finished, "trials/*/checkpoint-*", "trials/*/model.safetensors", "best/model.safetensors")
    assert disk.weights == pytest.approx(weights, rel=0.1)
    logs = num_bytes(finished, "tune/*/*", "trials/*/trial.json", "trials/*/epochs.jsonl", "optuna.journal")
    assert disk.logs == pytest.approx(logs, rel=0.3)
    masks = num_bytes(finished, "final/masks/*/*", "final/roi_labels/*/*", "final/views/*")
    assert disk.masks == pytest.approx(masks, rel=0.5)


def num_bytes(folder: Path, *patterns: str) -> int:
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def test_a_dry_run_forecasts_and_writes_nothing(ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    done = run([*command(ball_store, tiny_file, tmp_path / "results"), "--dry-run"])
    assert done.returncode == 0, done.stderr
    for words in ("fcn_ppm 4, unet3d 1", "trials at once", "s per step", "wall time", "disk", "memory"):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())
