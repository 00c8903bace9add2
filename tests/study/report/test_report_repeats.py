"""The report of a study with repeats of its finalists."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from support.fake_results import WINNER, curve_rows, repeat_rows, selection, trial_rows, write_rows

from study.records.content import load_results
from study.records.results import Results
from study.report import Report, print_report, write_report
from study.report.analysis.contents import analyse
from study.report.analysis.statistics import Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repeated(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("repeated") / "results"
    shutil.copytree(finished_study, folder)
    searched = [{**row, "repeat_of": "", "seed": 0, "fold": None} for row in trial_rows()]
    write_rows(folder / "trials.parquet", searched + repeat_rows())
    again = [{**row, "name": f"{WINNER}-seed-1", "repeat_of": WINNER} for row in curve_rows() if row["name"] == WINNER]
    write_rows(folder / "curves.parquet", [{**row, "repeat_of": ""} for row in curve_rows()] + again)
    (folder / "final" / "selection.json").write_text(json.dumps(selection()))
    return write_report(Results(str(folder)), Settings(resamples=200))


def test_repeats_are_no_trials_of_the_search(repeated: Report, finished_study: Path) -> None:
    before = load_results(Results(str(finished_study)))
    assert [trial.name for trial in repeated.content.trials or []] == [trial.name for trial in before.trials or []]
    assert {epoch.name for epoch in repeated.content.epochs or []} == {epoch.name for epoch in before.epochs or []}
    assert repeated.summary.states == {"complete": 5, "pruned": 2, "failed": 1}
    assert repeated.summary.repeat_states == {"complete": 3, "failed": 1}
    assert [repeat.fold for repeat in repeated.content.repeats] == [None, 0, None, 0]


def test_repeats_cost_hours(repeated: Report, finished_study: Path) -> None:
    before = analyse(Results(str(finished_study)), Settings(resamples=200)).summary.hours
    assert repeated.summary.hours.cpu == pytest.approx(before.cpu + 4 * 0.25)


def test_spread_is_shown_beside_the_finalists(repeated: Report) -> None:
    assert repeated.page is not None
    page = Path(repeated.page).read_text(encoding="utf-8")
    assert "<th>Objective over seeds</th><th>Objective over folds</th>" in page
    assert "<td>0.810 ± 0.014 (2)</td><td>0.750 (1)</td>" in page
    assert "Repeats: 3 complete · 1 failed" in page
    assert f"{WINNER} · ensemble of 2 networks" in page
    rows = list(csv.DictReader(io.StringIO((Path(repeated.content.path) / "tables" / "selection.csv").read_text())))
    spread = {row["checkpoint"]: (row["objective_over_seeds_mean"], row["objective_over_folds_sd"]) for row in rows}
    assert spread == {WINNER: ("0.81", ""), "fcn_ppm-0000": ("", "")}


def test_the_terminal_counts_repeats(repeated: Report) -> None:
    console = Console(record=True, width=140, file=io.StringIO())
    print_report(repeated, console)
    text = console.export_text()
    assert "Repeats of finalists: 3 complete · 1 failed" in text
    assert "milestones 4-7 · ensemble of 2 networks" in text


def test_a_study_without_repeats_says_nothing_of_them(page: str) -> None:
    assert "Objective over seeds" not in page and "Repeats:" not in page
