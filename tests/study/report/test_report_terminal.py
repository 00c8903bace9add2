import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.fake_results import write_manifest

from study.records.results import Results
from study.report import Report, print_report
from study.report.analysis.contents import analyse
from study.report.analysis.statistics import Estimate, Settings
from study.report.pages.formats import as_json, as_markdown
from study.report.pages.html import render
from study.report.pages.number_text import mean_sd

LONG = Estimate(112.08, 112.82, 0.0, 200.0, 6)


def printed(report: Report, width: int = 140) -> str:
    """Return what the terminal shows."""
    console = Console(record=True, width=width, file=io.StringIO())
    print_report(report, console)
    return console.export_text()


def test_table_one_shows_ours_beside_the_papers(written: Report) -> None:
    text = printed(written)
    row = next(line for line in text.splitlines() if "3D_FCN_PPM" in line)
    standing = written.summary.winner_standing
    assert standing is not None
    for cell in (mean_sd(standing.shown_dice["tumor"]), "0.931", "0.779", "4.24 ± 1.55", "2.65 ± 0.91"):
        assert cell in row


def test_a_narrow_terminal_puts_the_paper_below(written: Report) -> None:
    lines = printed(written, width=80).splitlines()
    place = next(index for index, line in enumerate(lines) if "3D_FCN_PPM" in line)
    assert "paper" in lines[place + 1]
    assert "0.779" in lines[place + 1]
    assert all("Intensity windows" not in line or "±" in line for line in lines[: place + 4])


@pytest.mark.parametrize("width", [40, 60, 76, 79, 80, 100, 118])
def test_no_width_cuts_digits_off(written: Report, width: int) -> None:
    """Distances of two digits before the point, as where tumors are missed, are the widest numbers."""
    standings = [replace(row, px_where_present={"tumor": LONG}) for row in written.summary.standings]
    text = printed(replace(written, summary=replace(written.summary, standings=standings)), width)
    rows = text.partition("The paper's columns")[0]
    assert rows.count("112.08 ± 112.82") == len(standings)
    assert rows.count("2.65 ± 0.91") == 1 and rows.count(" 12.08 ± 12.82") == 1
    for row in standings:
        assert mean_sd(row.dice["kidney"]) in rows and mean_sd(row.distance_px["kidney"], 2) in rows
    assert "…" not in rows


def test_a_failed_study_is_called_so(written: Report) -> None:
    failed = replace(written, summary=replace(written.summary, failures=["the study has failed: no tumor"]))
    assert "FAILED: the study has failed: no tumor" in printed(failed)
    assert "<b>FAILED STUDY.</b> The study has failed: no tumor." in render(failed, {}, [], [])
    assert "**FAILED: the study has failed: no tumor**" in as_markdown(failed)
    assert json.loads(as_json(failed))["failures"] == ["the study has failed: no tumor"]
    warned = replace(
        failed,
        content=replace(
            failed.content,
            manifest=failed.content.manifest.model_copy(
                update={"warnings": ("the study has failed: no tumor", "noise")}
            ),
        ),
    )
    assert warned.warnings == ["noise"]


@pytest.mark.parametrize(
    "words",
    [
        "SYNTHETIC IMAGES",
        "cannot be compared",
        "0.923 / 0.826",
        "12.0.8",
        "Winner: fcn_ppm-0001 · kernels 1-2-4-8",
        "weights tumor 3.1, kidney 1.1, background 0.2 · milestones 4-7",
        "patients: sensitivity 1.000 (0.610 to 1.000), 6 of 6",
        "Trials: 5 complete · 2 pruned · 1 failed",
        "Hours: 0.13 wall · 0.00 GPU · 2.00 CPU · 2.50 CPU saved by pruning",
        "failed fcn_ppm-0004: RuntimeError: <i>out of memory</i>",
        "Rung of 3D_FCN_PPM, 2 epochs after the first milestone: "
        "rank correlation with the final objective 1.00 (3 complete trials)",
        "Warning: case_00002: kidney of 952.0 ml, outside the plausible range of 30 to 400 ml",
        "report.html",
    ],
)
def test_the_terminal_says(written: Report, words: str) -> None:
    assert words in printed(written)


def test_a_running_study_says_what_is_missing(running_study: Path) -> None:
    text = printed(analyse(Results(str(running_study)), Settings()))
    assert "Not available yet: The final stage has not run yet" in text
    assert "Best trial so far: fcn_ppm-0001" in text
    assert "Table I" not in text


def test_brackets_in_names_are_no_markup(running_study: Path) -> None:
    write_manifest(running_study, study="[bold]mine[/bold]", warnings=["case [red]x[/red] was left out"])
    text = printed(analyse(Results(str(running_study)), Settings()))
    assert "[bold]mine[/bold]" in text
    assert "case [red]x[/red] was left out" in text
