"""Studies with few results, and with many: each has a readable report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_results import TRIALS, curve_rows, metric_rows, trial_rows, write_manifest, write_rows

from study.records.results import Results
from study.report import write_report
from study.report.analysis.contents import analyse
from study.report.analysis.statistics import Settings
from study.report.pages.formats import as_csv, as_json, as_markdown

FAILED = [row | {"state": "failed", "objective": None, "best_epoch": None, "epochs": 0} for row in trial_rows()]


def study_of(folder: Path, trials: list[dict[str, Any]], curves: list[dict[str, Any]]) -> Results:
    write_manifest(folder, finished=False)
    if trials:
        write_rows(folder / "trials.parquet", trials)
    if curves:
        write_rows(folder / "curves.parquet", curves)
    return Results(str(folder))


@pytest.mark.parametrize(
    ("trials", "curves", "words"),
    [
        ([], [], "No trial has been recorded yet"),
        (trial_rows()[:1], curve_rows()[:9], "1 complete"),
        (FAILED, [], "8 failed"),
    ],
    ids=["empty", "one trial", "all failed"],
)
def test_a_study_with_little_in_it(tmp_path: Path, trials: list[Any], curves: list[Any], words: str) -> None:
    made = write_report(study_of(tmp_path, trials, curves))
    page = Path(str(made.page)).read_text(encoding="utf-8")
    assert words in page
    assert "The final stage has not run yet" in page
    told = json.loads(as_json(made))
    assert told["finished"] is False and told["missing"]
    assert "# Study quick" in as_markdown(made)
    assert as_csv(made) == ""


def many(number: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return copies of the fake study's trials, each with its epochs."""
    rng = np.random.default_rng(0)
    trials, curves = [], []
    for index in range(number):
        place = index % len(TRIALS)
        row, name = trial_rows()[place], f"{TRIALS[place].network}-{index:04d}"
        trials.append({**row, "trial": index, "name": name, "weight_tumor": float(rng.uniform(0.5, 8))})
        epochs = [epoch for epoch in curve_rows() if epoch["trial"] == place]
        curves += [{**epoch, "trial": index, "name": name} for epoch in epochs]
    return trials, curves


@pytest.mark.slow
def test_two_thousand_trials(tmp_path: Path) -> None:
    made = write_report(study_of(tmp_path, *many(2000)))
    assert made.summary.states == {"complete": 1250, "pruned": 500, "failed": 250}
    assert Path(str(made.page)).stat().st_size < 15e6


@pytest.mark.slow
def test_cases_without_views_are_named(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    write_rows(tmp_path / "trials.parquet", trial_rows())
    write_rows(tmp_path / "final" / "metrics.parquet", metric_rows())
    page = Path(str(write_report(Results(str(tmp_path))).page)).read_text(encoding="utf-8")
    assert "no pictures of test cases yet" in page.lower()
    assert "No estimate is available: the final stage has not ended" in page


def test_markdown_escapes_what_names_hold(finished_study: Path) -> None:
    report = analyse(Results(str(finished_study)), Settings())
    winner = report.summary.winner
    assert winner is not None
    wicked = replace(report, summary=replace(report.summary, winner=replace(winner, name="<b>|`x`")))
    told = as_markdown(wicked)
    assert "\\<b\\>\\|\\`x\\`" in told and "<b>" not in told


def test_json_holds_the_tables(finished_study: Path) -> None:
    told = json.loads(as_json(analyse(Results(str(finished_study)), Settings())))
    assert told["winner"] == "fcn_ppm-0001"
    assert {"table_one", "differences", "detection", "stages", "importances", "quality", "plans"} <= told[
        "tables"
    ].keys()
    assert {"effects", "interactions", "suggestions"} <= told["tables"].keys()
    assert "trials" not in told["tables"]
    first = told["tables"]["differences"][0]
    assert {"p_value", "p_holm", "rank_biserial", "cohens_dz"} <= first.keys()


def test_csv_is_table_one(finished_study: Path) -> None:
    lines = as_csv(analyse(Results(str(finished_study)), Settings())).splitlines()
    assert lines[0].startswith("network,checkpoint,role") and len(lines) == 6
