import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.fake_results import CASES, MARKUP_CASE, metric_rows, write_manifest, write_rows

from study.records.results import Results
from study.report import Report, write_report
from study.report.analysis.contents import analyse
from study.report.analysis.statistics import Settings
from study.report.pages.html import render

MAX_BYTES = 15_000_000


class Loads(HTMLParser):
    """Collects every address that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = ("src", "href", "srcset", "data", "action", "poster")
        self.addresses += [value or "" for name, value in attrs if name in loading]


def drawn_without_figures(folder: Path) -> str:
    """Return the page of a folder without figures, which take most of the time."""
    return render(analyse(Results(str(folder)), Settings()), {}, [], [])


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    parser = Loads()
    parser.feed(page)
    assert parser.addresses
    assert all(address.startswith(("data:", "#")) for address in parser.addresses)
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page


def test_the_page_stays_small(page: str) -> None:
    assert len(page.encode()) < MAX_BYTES


def test_markup_in_names_and_reasons_is_escaped(page: str) -> None:
    assert MARKUP_CASE not in page
    assert "case_&lt;b&gt;bold" in page
    assert "<i>out of memory" not in page


def test_a_script_in_the_manifest_stays_text(running_study: Path) -> None:
    write_manifest(running_study, study="</title><script>alert(1)</script>", warnings=["<img src=x>"])
    text = drawn_without_figures(running_study)
    assert "<script>alert" not in text
    assert "<img src=x>" not in text


@pytest.mark.parametrize(
    "words",
    [
        "SYNTHETIC IMAGES",
        "not a medical device",
        "Table I of the paper, with the results of this study",
        "12.08 ± 12.82",
        "cannot be compared",
        "paper’s point",
        "Seen from the feet",
        "feedc0de",
        "python -m study.run --preset quick --results results/quick",
        "network + dense CRF",
        "2024-05-04 10:20 UTC",
    ],
)
def test_the_page_says(page: str, words: str) -> None:
    assert words in page


def test_every_trial_and_case_has_a_row(page: str, written: Report) -> None:
    for trial in written.content.trials or []:
        assert f"<td>{trial.name}" in page
    assert len(re.findall(r'class="badge (found|missed|alarm|)"', page)) == len(CASES)


@pytest.mark.slow
def test_the_page_of_a_running_study_says_what_is_missing(running_study: Path) -> None:
    text = Path(write_report(Results(str(running_study))).page or "").read_text(encoding="utf-8")
    assert "Some results are not available yet." in text
    assert "Best trial so far" in text
    assert "The final stage has not measured any test case yet." in text


def test_a_manifest_alone_gets_a_page(tmp_path: Path) -> None:
    write_manifest(tmp_path, finished=False)
    text = Path(write_report(Results(str(tmp_path))).page or "").read_text(encoding="utf-8")
    assert "No winner yet" in text
    assert not (tmp_path / "tables").exists()


def test_a_winner_that_the_trials_lack_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    write_rows(tmp_path / "final" / "metrics.parquet", metric_rows())
    text = drawn_without_figures(tmp_path)
    assert "does not hold this trial" in text
    assert "Dice tumor, test cases with a tumor" in text and "Patient sensitivity" in text


def test_real_images_are_not_called_synthetic(running_study: Path) -> None:
    write_manifest(running_study, data={"source": "/data/store", "synthetic": False})
    assert "SYNTHETIC" not in drawn_without_figures(running_study)


def test_tables_hold_what_figures_draw(written: Report) -> None:
    folder = Path(written.content.path) / "tables"
    with (folder / "patient_dice.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(CASES) * 5
    assert {row["case"] for row in rows} == set(CASES)
    names = {"table_one", "detection", "differences", "stages", "patients", "trials", "learning_curves"}
    assert names <= {path.stem for path in folder.glob("*.csv")}


def test_each_figure_is_written_twice(written: Report) -> None:
    folder = Path(written.content.path) / "figures"
    pngs, svgs = ({path.stem for path in folder.glob(f"*.{kind}")} for kind in ("png", "svg"))
    assert pngs == svgs
    assert pngs == {
        "dice_by_volume",
        "effects",
        "gallery",
        "importances",
        "interaction",
        "learning_curves",
        "overlays",
        "parallel_coordinates",
        "patient_dice",
        "pruning",
        "trial_overview",
        "trust",
        "volume_agreement",
        "worst_case",
    }


def test_the_page_says_by_what_the_winner_was_chosen(finished_study: Path) -> None:
    report = analyse(Results(str(finished_study)), Settings())
    assert "highest mean Dice in this table, by full inference" in render(report, {}, [], [])
    by_folds = report.content.selection.model_copy(update={"num_folds": 5})
    text = render(replace(report, content=replace(report.content, selection=by_folds)), {}, [], [])
    assert "the highest objective over the 5 folds, because there are few validation cases." in text
    assert "mean Dice in this table" not in text


def test_the_test_cases_are_not_called_read_once_after_an_extension(finished_study: Path) -> None:
    report = analyse(Results(str(finished_study)), Settings())
    assert "The test cases were read once, after this choice." in render(report, {}, [], [])
    for earlier, times in ((1, "once"), (2, "2 times")):
        extended = replace(report, content=replace(report.content, earlier_choices=earlier))
        text = render(extended, {}, [], [])
        assert f"The test cases had been read {times} before this choice" in text
        assert "read once, after" not in text
