"""The report of a study with another label set: each label is in each table."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.fake_results import CASES, MARKUP_CASE, metric_row, trial_rows, write_manifest, write_rows

from renalnet.config import KIDNEY_TUMOR, KITS23, LabelSet
from renalnet.config.labels import Label, listed, with_article
from renalnet.config.networks import NETWORKS
from study.records.content import load_results
from study.records.results import Results
from study.records.tables import Measurement, Trial
from study.report import Report, print_report
from study.report.analysis.contents import analyse
from study.report.analysis.detection import detections_of
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import case_outcomes, lesions_of, margins_of, standings_of, summarise, tumor_first
from study.report.analysis.tables import tables_of
from study.report.pages import number_text
from study.report.pages.formats import as_csv, as_json, as_markdown
from study.report.pages.html import render

SETTINGS = Settings(resamples=200)
VEIN = Label(name="renal_vein", value=2)
CYST = Label(name="cyst", value=3, lesion_of="kidney")
REORDERED = LabelSet(
    name="reordered",
    labels=(KIDNEY_TUMOR.kidney, VEIN, CYST, KIDNEY_TUMOR.tumor.model_copy(update={"value": 4})),
)
"""A set with a structure that is no lesion, and with the tumor after another lesion."""


def rows_of(case: str, network: str, dice: Mapping[str, float], **changes: Any) -> list[Measurement]:
    return [Measurement(**metric_row(case, network, label, value, **changes)) for label, value in dice.items()]


def table(report: Report, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file that the report wrote."""
    return list(csv.DictReader(io.StringIO(Path(report.content.folder.table_path(name)).read_text(encoding="utf-8"))))


def columns(report: Report, name: str) -> list[str]:
    return list(tables_of(report)[name][0])


def printed(report: Report, width: int) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    print_report(report, console)
    return console.export_text()


def page_of(report: Report) -> str:
    return Path(str(report.page)).read_text(encoding="utf-8")


# By hand: the winner's Dice of the cyst is 0.8, 0.6, 0.6 and 0 in the four cases with a cyst, and 1, 1, 1 and 0 in the
# others. Their mean is 5 / 8, and that of the first four is 2 / 4.


@pytest.mark.slow
def test_table_one_has_columns_of_each_label(with_cysts: Report) -> None:
    winner = next(row for row in table(with_cysts, "table_one") if row["network"] == "fcn_ppm")
    assert float(winner["dice_cyst_mean"]) == pytest.approx(5 / 8)
    assert float(winner["surface_distance_cyst_px_mean"]) == pytest.approx(5 * 3 / 8)
    assert float(winner["dice_cyst_where_present_mean"]) == pytest.approx(2 / 4)
    assert (winner["num_empty_predictions"], winner["num_empty_predictions_cyst"]) == ("0", "1")
    dice = [name for name in winner if name.startswith("dice_") and name.endswith("_mean")]
    assert dice == [
        "dice_kidney_mean",
        "dice_tumor_mean",
        "dice_cyst_mean",
        "dice_tumor_where_present_mean",
        "dice_cyst_where_present_mean",
    ]


@pytest.mark.parametrize("name", ["appendix", "selection", "stages"])
def test_the_other_tables_of_standings_have_them_too(with_cysts: Report, name: str) -> None:
    assert {"dice_cyst_mean", "surface_distance_cyst_px_mean"} <= set(columns(with_cysts, name))


def test_test_cases_have_columns_of_each_label(with_cysts: Report) -> None:
    assert columns(with_cysts, "patients") == [
        "case",
        "network",
        "tumor_ml",
        "tumor_pred_ml",
        "kidney_ml",
        "kidney_pred_ml",
        "cyst_ml",
        "cyst_pred_ml",
        "dice_kidney",
        "dice_tumor",
        "dice_cyst",
        "distance_kidney_px",
        "distance_tumor_px",
        "distance_cyst_px",
        "distance_kidney_mm",
        "distance_tumor_mm",
        "distance_cyst_mm",
        "has_tumor",
        "found",
        "has_cyst",
        "found_cyst",
        "expected_dice",
    ]
    cases = {row["case"]: row for row in table(with_cysts, "patients")}
    shown = ("cyst_ml", "cyst_pred_ml", "dice_cyst", "has_cyst", "found_cyst")
    assert [cases["case_00001"][name] for name in shown] == ["4.0", "5.0", "0.8", "True", "True"]
    assert [cases[MARKUP_CASE][name] for name in shown] == ["4.0", "0.0", "0.0", "True", "False"]
    assert [cases["healthy_2"][name] for name in shown] == ["0.0", "5.0", "0.0", "False", ""]


def test_the_dice_of_each_method_is_listed_by_label(with_cysts: Report) -> None:
    rows = table(with_cysts, "patient_dice")
    assert list(rows[0]) == ["case", "network", "tumor_ml", "cyst_ml", "dice_kidney", "dice_tumor", "dice_cyst"]
    first = {row["network"]: (row["cyst_ml"], row["dice_cyst"]) for row in rows if row["case"] == "case_00001"}
    assert first["fcn_ppm"] == ("4.0", "0.8")
    assert first["unet3d"] == ("4.0", "0.4")
    assert first["threshold_roi"] == ("4.0", "0.0")


def test_detection_is_listed_by_lesion(with_cysts: Report) -> None:
    rows = table(with_cysts, "detection")
    assert list(rows[0])[:3] == ["network", "label", "reading"]
    # Five methods, by voxel and patient, sensitivity and specificity.
    assert [row["label"] for row in rows] == ["tumor"] * 20 + ["cyst"] * 20
    winner = [row for row in rows if (row["network"], row["label"]) == ("fcn_ppm", "cyst")]
    counts = {(row["reading"], row["rate"]): (row["successes"], row["total"]) for row in winner}
    assert counts["patient", "sensitivity"] == ("3", "4")
    assert counts["patient", "specificity"] == ("3", "4")
    assert counts["voxel", "sensitivity"] == ("2000", "4000")


def test_differences_are_listed_by_label(with_cysts: Report) -> None:
    rows = [row for row in table(with_cysts, "differences") if row["other"] == "unet3d"]
    assert [row["label"] for row in rows] == ["tumor", "kidney", "cyst"]
    # 3D U-Net has 0.4 four times and 1 four times.
    assert float(rows[2]["mean"]) == pytest.approx(2 / 4 - 1.6 / 4)  # over the four cases with a cyst
    assert {row["label"] for row in table(with_cysts, "classes")} == {"kidney", "tumor", "cyst"}


def test_trials_epochs_and_sheets_have_columns_of_each_label(with_cysts: Report) -> None:
    trials = columns(with_cysts, "trials")
    assert [name for name in trials if name.startswith("dice_")] == ["dice_kidney", "dice_tumor", "dice_cyst"]
    assert [name for name in trials if name.startswith("weight_")] == [
        "weight_cyst",
        "weight_tumor",
        "weight_kidney",
        "weight_background",
    ]
    assert columns(with_cysts, "learning_curves")[4:8] == ["loss", "dice_kidney", "dice_tumor", "dice_cyst"]
    place = columns(with_cysts, "plans").index("num_tumors")
    assert columns(with_cysts, "plans")[place : place + 4] == ["num_tumors", "cyst_ml", "num_cysts", "remaining_ml"]
    sheets = {row["case"]: row for row in table(with_cysts, "plans") if row["source"] == "truth"}
    assert (sheets["case_00001"]["num_cysts"], sheets["healthy_1"]["num_cysts"]) == ("1", "0")


@pytest.mark.parametrize(
    "words",
    [
        "weights cyst 2.5, tumor 3.1, kidney 1.1, background 0.2",
        "Dice cyst 0.500 over the 4 test cases with a cyst; found in 3 of 4, none predicted in 1; false alarms in 1 of",
        "cyst 0.500 ± 0.346",
        "  cyst Dice minus that of 3D U-Net: +0.100 (",
        "Tumor detection of the winner",
        "Cyst detection of the winner\n  voxels:   sensitivity 0.500 (",
        "  patients: sensitivity 0.750 (0.301 to 0.954), 3 of 4",
    ],
)
def test_the_terminal_says(with_cysts: Report, words: str) -> None:
    assert words in printed(with_cysts, 140)


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_the_numbers_of_each_label_whole(with_cysts: Report, width: int) -> None:
    text = printed(with_cysts, width)
    rows = [line for line in text.splitlines() if line.startswith("  3D_FCN_PPM")]
    assert len(rows) == 2
    assert "0.500 ± 0.346" in rows[1] and "2.50 ± 1.73" in rows[1]
    # The paper has no numbers of a cyst.
    assert "–" in text.splitlines()[text.splitlines().index(rows[1]) + (width == 80)]
    assert "…" not in text


def test_markdown_has_each_label(with_cysts: Report) -> None:
    text = as_markdown(with_cysts)
    heads = "Dice kidney | Dice tumor | Dice cyst | distance kidney (px) | distance tumor (px) | distance cyst (px)"
    assert f"| mean ± sd | {heads} |" in text
    assert f"| stage of the winner | {heads.replace('(px)', '(mm)')} |" in text
    assert "| 3D U-Net | cyst | +0.100 (" in text
    assert "| 3D\\_FCN\\_PPM | cyst | 0.500 (" in text and "0.750 (0.301 to 0.954), 3 of 4" in text


def test_csv_and_json_have_each_label(with_cysts: Report) -> None:
    winner = next(row for row in csv.DictReader(io.StringIO(as_csv(with_cysts))) if row["network"] == "fcn_ppm")
    assert float(winner["dice_cyst_mean"]) == pytest.approx(5 / 8)
    tables = json.loads(as_json(with_cysts))["tables"]
    assert {row["label"] for row in tables["detection"]} == {"tumor", "cyst"}
    assert "dice_cyst" in tables["patients"][0] and "cyst_ml" in tables["plans"][0]


@pytest.mark.parametrize(
    "words",
    [
        '<div class="label">Dice cyst, test cases with a cyst</div><div class="value">0.500</div>',
        '<div class="label">Cyst found</div><div class="value">3 of 4</div>',
        '<div class="label">False alarms, test cases without a cyst</div><div class="value">1 of 4</div>',
        "cyst 2.5, tumor 3.1, kidney 1.1, background 0.2",
        '<dt>Cyst, test cases</dt><dd class="headline">Dice cyst 0.500 over the 4 test cases with a cyst; found in 3',
        "<th>Dice cyst</th>",
        "<th>Distance cyst (px)</th>",
        '<td class="left">cyst</td><td>+0.100</td>',
        "<h2>Lesion detection</h2>",
        "the share of patients with a lesion whose lesion was found",
        '<td class="left">cyst</td><td class="left">0.500<small>',
        "Neither rule predicts any other label.",
        "<th>Cyst (ml)</th><th>Cyst predicted (ml)</th><th>Dice cyst</th><th>Distance cyst (mm)</th>",
        "<th>Dice cyst, 3D U-Net</th>",
        '<th class="left">Tumor detection</th><th class="left">Cyst detection</th>',
        '<span class="badge alarm">false alarm</span>',
        '<i style="background:#4D8DFF"></i>cyst',
        "tumor 0.2 ml, cyst 0.3 ml",
        "<td>Pieces of cyst</td>",
        "The slice with the most tumor (or other lesion, or kidney) of the best",
        "mean Dice of kidney, tumor and cyst on the validation cases",
        "<th>Dice cyst</th><th>Mean of all</th>",
        "<th>Cyst weight</th><th>Tumor weight</th><th>Kidney weight</th><th>Backgr. weight</th>",
    ],
)
def test_the_page_says(with_cysts: Report, words: str) -> None:
    assert words in page_of(with_cysts)


def test_a_cell_of_the_page_belongs_to_each_heading(with_cysts: Report) -> None:
    body = page_of(with_cysts).partition('id="case-table">')[2].partition("</table>")[0]
    head, *rows = body.split("<tr>")[1:]
    assert len(rows) == len(CASES)
    assert {row.count("<td") for row in rows} == {head.count("<th>") + head.count("<th class")}


def test_the_default_set_has_the_columns_it_always_had(written: Report) -> None:
    assert columns(written, "detection")[:3] == ["network", "reading", "rate"]
    assert " ".join(columns(written, "patients")) == (
        "case network tumor_ml tumor_pred_ml kidney_ml kidney_pred_ml dice_kidney dice_tumor distance_kidney_px "
        "distance_tumor_px distance_kidney_mm distance_tumor_mm has_tumor found expected_dice"
    )
    assert " ".join(columns(written, "patient_dice")) == "case network tumor_ml dice_kidney dice_tumor"
    estimates = [name.removesuffix("_mean") for name in columns(written, "table_one") if name.endswith("_mean")]
    assert " ".join(estimates) == (
        "dice_kidney dice_tumor surface_distance_kidney_px surface_distance_tumor_px dice_tumor_where_present "
        "surface_distance_kidney_mm surface_distance_tumor_mm surface_distance_tumor_px_where_present "
        "surface_distance_tumor_mm_where_present"
    )
    assert columns(written, "table_one")[-9:] == [
        "num_empty_predictions",
        "paper_dice_kidney",
        "paper_dice_tumor",
        "paper_distance_kidney_px",
        "paper_distance_tumor_px",
        "num_with_tumor",
        "num_found_tumor",
        "num_without_tumor",
        "num_false_alarms_tumor",
    ]
    # The file of the trials has no columns of Dice, as in an earlier version.
    assert columns(written, "trials")[4:8] == ["objective", "dice_kidney", "dice_tumor", "best_epoch"]
    assert columns(written, "trials")[16:19] == ["weight_tumor", "weight_kidney", "weight_background"]
    assert not [name for name in columns(written, "plans") if name.startswith("num_") and name != "num_tumors"]


def test_the_default_page_is_about_tumors(page: str) -> None:
    assert "<h2>Tumor detection</h2>" in page and "<th>Mean of both</th>" in page
    assert "The slice with the most tumor (or kidney) of the best" in page
    assert "Neither rule predicts" not in page and "lesion" not in page.partition("<script")[0]


def test_old_files_have_the_default_labels(running_study: Path) -> None:
    write_rows(
        running_study / "trials.parquet", [{**row, "dice_kidney": 0.9, "dice_tumor": 0.6} for row in trial_rows()]
    )
    content = load_results(Results(str(running_study)))
    assert content.labels == KIDNEY_TUMOR
    first = (content.trials or [])[0]
    assert first.dice == {"kidney": 0.9, "tumor": 0.6}
    assert first.weights == {"tumor": 2.0, "kidney": 1.0, "background": 0.2}


def test_the_winner_is_chosen_by_the_mean_over_all_labels(tmp_path: Path) -> None:
    write_manifest(tmp_path, config={"labels": KITS23.model_dump(mode="json")})
    first = {"split": "validation", "checkpoint": "a", "role": "winner"}
    second = {"split": "validation", "checkpoint": "b", "role": "appendix"}
    by_finalist = [(first, (0.8, 0.5, 0.7)), (second, (0.9, 0.7, 0.1))]
    rows = [
        metric_row("case", "fcn_ppm", label, value, **about)
        for about, dice in by_finalist
        for label, value in zip(KITS23.names, dice, strict=True)
    ]
    write_rows(tmp_path / "final" / "metrics.parquet", rows)
    selection = summarise(load_results(Results(str(tmp_path))), SETTINGS).selection
    assert [row.method.checkpoint for row in selection] == ["a", "b"]
    assert [row.mean_dice for row in selection] == pytest.approx([2 / 3, 1.7 / 3])


DICE = {"kidney": 0.9, "renal_vein": 0.7, "cyst": 0.5, "tumor": 0.6}


def test_the_tumor_is_compared_first_wherever_it_is_in_the_set() -> None:
    assert [label.name for label in tumor_first(REORDERED)] == ["tumor", "kidney", "renal_vein", "cyst"]
    assert [label.name for label in lesions_of(REORDERED)] == ["tumor", "cyst"]
    rows = rows_of("a", "fcn_ppm", DICE) + rows_of("a", "unet3d", dict.fromkeys(DICE, 0.4))
    margins = {margin.label: margin.difference.mean for margin in margins_of(rows, REORDERED, SETTINGS)}
    assert list(margins) == ["tumor", "kidney", "renal_vein", "cyst"]
    assert list(margins.values()) == pytest.approx([0.2, 0.5, 0.3, 0.1])
    winner = standings_of(rows, REORDERED, SETTINGS)[1]
    assert list(winner.dice) == ["kidney", "renal_vein", "cyst", "tumor"]


def test_a_structure_that_is_no_lesion_is_not_detected() -> None:
    rows = rows_of("a", "fcn_ppm", DICE)
    assert [found.label for found in detections_of(rows, REORDERED, SETTINGS)] == ["tumor", "cyst"]
    (case,) = case_outcomes(rows, REORDERED)
    assert case.present == {"tumor": True, "cyst": True}
    assert case.dice == DICE
    (standing,) = standings_of(rows, REORDERED, SETTINGS)
    assert list(standing.dice_where_present) == ["tumor", "cyst"]


def test_titles_have_spaces_for_underscores(tmp_path: Path) -> None:
    write_manifest(tmp_path, config={"labels": REORDERED.model_dump(mode="json")})
    rows = [metric_row("a", "fcn_ppm", label, value) for label, value in DICE.items()]
    write_rows(tmp_path / "final" / "metrics.parquet", rows)
    report = analyse(Results(str(tmp_path)), SETTINGS)
    page = render(report, {}, [], [])
    assert "Dice renal vein, test cases" in page and "<th>Renal vein (ml)</th>" in page
    assert "Renal vein detection" not in page and "renal_vein" not in page.partition("<details>")[0]
    assert "renal vein 0.700" in printed(report, 140)
    assert list(tables_of(report)["patients"][0])[-5:] == [
        "has_tumor",
        "found",
        "has_cyst",
        "found_cyst",
        "expected_dice",
    ]


def test_a_method_without_rows_of_each_label_is_left_out() -> None:
    partial = {name: value for name, value in DICE.items() if name != "cyst"}
    rows = rows_of("a", "fcn_ppm", DICE) + rows_of("a", "unet3d", partial)
    assert [row.method.network for row in standings_of(rows, REORDERED, SETTINGS)] == ["fcn_ppm"]
    (case,) = case_outcomes(rows, REORDERED)
    assert case.others == {}
    assert case_outcomes(rows_of("a", "fcn_ppm", partial), REORDERED) == []


def test_verdicts_are_those_of_the_lesion() -> None:
    (case,) = case_outcomes(rows_of("a", "fcn_ppm", DICE), REORDERED)
    missed = replace(case, found_lesions={"tumor": True, "cyst": False})
    assert [missed.verdict(lesion) for lesion in lesions_of(REORDERED)] == ["found", "missed"]
    absent = replace(case, present={"tumor": True, "cyst": False}, pred_ml={**case.pred_ml, "cyst": 0.0})
    assert absent.verdict(CYST) == "no cyst, none predicted"


def test_numbers_and_names_as_text() -> None:
    assert listed(["kidney", "tumor"]) == "kidney and tumor"
    assert listed(["kidney", "tumor", "cyst"]) == "kidney, tumor and cyst"
    assert [with_article(name) for name in ("tumor", "abscess")] == ["a tumor", "an abscess"]
    trial = Trial(0, "a", "fcn_ppm", "complete", weights={"renal_vein": 1.25, "tumor": 2.0, "kidney": None})
    assert number_text.weights(trial) == "renal vein 1.25, tumor 2"
    paper = NETWORKS["fcn_ppm"].paper
    assert (number_text.paper_dice(paper, "tumor"), number_text.paper_dice(paper, "cyst")) == ("0.779", "–")
    assert number_text.paper_distance(paper, "kidney") == "4.24 ± 1.55"
    assert {number_text.paper_distance(row, name) for row, name in ((None, "kidney"), (paper, "cyst"))} == {"–"}
