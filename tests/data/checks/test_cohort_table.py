"""Tests of the summary of a cohort, worked out by hand."""

from dataclasses import replace

from support.validation_cases import sound_facts

from renalnet.data.checks.cohort_table import SummaryRow, summarise_facts
from renalnet.data.checks.facts import CaseFacts
from renalnet.types import Split

SPLITS: dict[str, Split] = {"a": "train", "b": "train", "c": "test"}


def three() -> list[CaseFacts]:
    sound = replace(sound_facts(), roi_ml=1000.0, roi_kidney_ml=100.0, tumor_ml=20.0, roi_tumor_ml=20.0)
    return [
        replace(sound, case="a", spacing_z_mm=1.0, num_tumors=2, phase="unenhanced", kidney_hu=40.0),
        replace(sound, case="b", spacing_z_mm=5.0, roi_kidney_ml=300.0, oblique=True, tumor_ml=1.0, roi_tumor_ml=1.0),
        replace(sound, case="c", tumor_ml=0.0, roi_tumor_ml=0.0, tumor_hu=None, is_cut=True),
    ]


def rows() -> dict[str, SummaryRow]:
    return {row.name: row for row in summarise_facts(iter(three()), SPLITS)}


def test_cases_are_counted_by_split() -> None:
    table = rows()
    assert table["cases"] == SummaryRow("cases", "3", "140", "train 2, validation 0, test 1; paper: train 90, test 50")
    assert table["without tumor"] == SummaryRow("without tumor", "1", "0", "train 0, validation 0, test 1")
    assert (table["ROIs already cut"].cohort, table["ROIs already cut"].remark) == ("1", "2 whole scans")


def test_spacings_are_smallest_median_largest() -> None:
    row = rows()["slice spacing (mm)"]
    assert (row.cohort, row.remark) == ("1.00 · 3.00 · 5.00", "1 oblique, resampled upright")


def test_volumes_leave_healthy_kidneys_out_of_tumors() -> None:
    table = rows()
    assert table["kidney (ml)"].cohort == "100.0 · 100.0 · 300.0 (mean 166.7)"
    assert table["kidney (ml)"].remark == "0 below the paper's, 1 above"
    assert table["tumor (ml)"].cohort == "1.0 · 10.5 · 20.0 (mean 10.5)"
    assert table["tumor (ml)"].remark == "1 below the paper's, 0 above; 1 with several tumors"
    assert table["tumor (ml)"].paper == "2.11 to 144.82 (mean 33.58)"


def test_shares_are_those_of_the_summed_volumes() -> None:
    table = rows()
    shares = [(table[f"{name} (% of ROI)"].cohort, table[f"{name} (% of ROI)"].paper) for name in _CLASSES]
    assert shares == [("16.67", "16.93"), ("0.70", "2.43"), ("82.63", "80.64")]


_CLASSES = ("kidney", "tumor", "background")


def test_intensities_and_phase() -> None:
    table = rows()
    assert table["kidney (mean HU)"].cohort == "40 · 200 · 200"
    assert table["tumor (mean HU)"].cohort == "60 · 60 · 60"
    assert table["phase"].cohort == "2 enhanced, 1 unenhanced"


def test_an_empty_cohort_has_dashes() -> None:
    table = {row.name: row.cohort for row in summarise_facts([], {})}
    assert table["cases"] == "0"
    assert table["kidney (ml)"] == table["kidney (% of ROI)"] == table["phase"] == "–"
