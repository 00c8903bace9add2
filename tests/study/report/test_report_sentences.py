"""Every number in a sentence of the report is that of its table."""

import csv
import html
import re
from pathlib import Path

import pytest
from support.fake_results import WINNER

from study.report import Report
from study.report.pages.formats import as_markdown

NUMBER = r"[-+]?\d+(?:\.\d+)?"


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def table(report: Report, name: str) -> list[dict[str, str]]:
    with (Path(report.content.path) / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def winner(report: Report) -> dict[str, str]:
    return next(row for row in table(report, "table_one") if row["role"] == "winner")


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


def part(page: str, pattern: str) -> str:
    found = re.search(pattern, page, re.DOTALL)
    assert found is not None, pattern
    return plain(found[1])


def values(row: dict[str, str], *names: str) -> list[float]:
    return [float(row[name]) for name in names]


def test_the_headline(page: str, written: Report) -> None:
    row = winner(written)
    detection = ("num_with_tumor", "num_found_tumor", "num_with_tumor", "num_empty_predictions")
    alarms = ("num_false_alarms_tumor", "num_without_tumor")
    expected = values(row, "dice_tumor_where_present_mean", *detection, *alarms)
    told = numbers(part(page, r'<dd class="headline">(.*?)</dd>'))
    assert told == pytest.approx(expected, abs=5e-4)
    assert numbers(written.summary.standings[2].headlines["tumor"].text) == told
    cases = [case for case in table(written, "patients") if case["has_tumor"] == "True"]
    assert told[0] == pytest.approx(sum(float(case["dice_tumor"]) for case in cases) / len(cases), abs=5e-4)
    assert told[1:3] == [len(cases), sum(case["found"] == "True" for case in cases)]


def test_the_tiles(page: str, written: Report) -> None:
    tiles = [plain(tile) for tile in re.findall(r'<div class="tile[^"]*">(.*?</div>.*?</div>.*?</div>)', page)]
    row = winner(written)
    dice = ("dice_tumor_where_present_mean", "dice_tumor_where_present_low", "dice_tumor_where_present_high")
    first = numbers(tiles[0].replace("95 % interval", ""))
    assert first[:3] == pytest.approx(values(row, *dice), abs=5e-4) and first[3] == float(row["num_with_tumor"])
    patient = {
        r["rate"]: r for r in table(written, "detection") if (r["network"], r["reading"]) == ("fcn_ppm", "patient")
    }
    for tile, rate in ((tiles[1], "sensitivity"), (tiles[2], "specificity")):
        told = numbers(tile.replace("95 % interval", ""))
        found = patient[rate]
        successes = (
            float(found["successes"]) if rate == "sensitivity" else float(found["total"]) - float(found["successes"])
        )
        assert told[:2] == [successes, float(found["total"])]
        assert told[2:5] == pytest.approx(values(found, "value", "low", "high"), abs=5e-4)
    rules = [r for r in table(written, "differences") if r["other"].startswith("threshold") and r["label"] == "tumor"]
    for tile, margin in zip(tiles[4:], rules, strict=True):
        told = numbers(tile.replace("95 % interval", ""))
        assert told == pytest.approx(values(margin, "mean", "low", "high"), abs=5e-4)


def test_the_intensity_rules(page: str, written: Report) -> None:
    section = part(page, r'<section id="rules">(.*?)</section>')
    for row in table(written, "differences"):
        if row["other"].startswith("threshold") and row["label"] == "tumor":
            mean, low, high = values(row, "mean", "low", "high")
            assert f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" in section
            assert f"p {float(row['p_holm']):.3f} (Holm), {row['num']} cases" in section


def test_what_the_tests_can_show(page: str, written: Report) -> None:
    rows = table(written, "differences")
    told = numbers(part(page, r'<b id="power">(.*?)</b>'))
    sizes = sorted({int(row["num"]) for row in rows})
    least = min(float(row["least_p_holm"]) for row in rows)
    # Six cases with a tumor, eight kidneys: 8 * 2**(1 - 8) = 1 / 16.
    assert (sizes, len(rows), least) == ([6, 8], 8, 0.0625)
    assert told[:4] == pytest.approx([*sizes, len(rows), least], abs=1e-3)
    assert min(float(row["p_holm"]) for row in rows) >= least


def test_the_estimated_quality(page: str, written: Report) -> None:
    trust = written.summary.trust
    assert trust is not None
    told = numbers(part(page, r'true Dice is (<b id="trust">.*? cases\))').replace("95 % interval", ""))
    assert told == pytest.approx([trust.value, trust.low, trust.high, trust.num], abs=5e-3)


def test_the_implausible_masks(page: str, written: Report) -> None:
    listed = part(page, r'<div class="banner"><b id="implausible">(.*?)</div>')
    (row,) = (row for row in table(written, "plans") if row["warnings"])
    assert numbers(listed)[0] == 1 and f"{row['case']}: {row['warnings']}" in listed


def test_the_stages_and_the_markdown(page: str, written: Report) -> None:
    section = part(page, r'<section id="stages">(.*?)</section>')
    for row in table(written, "stages"):
        assert f"{float(row['dice_tumor_where_present_mean']):.3f} ±" in section
        assert f"{float(row['surface_distance_kidney_mm_mean']):.2f} ±" in section
    text = as_markdown(written)
    assert "distance tumor (px)" in text.partition("stage of the winner")[0]
    for row in table(written, "stages"):
        in_mm = f"| {float(row['surface_distance_tumor_mm_where_present_mean']):.2f} ±"
        assert in_mm in text.partition("stage of the winner")[2]
    assert f"| {float(winner(written)['dice_tumor_where_present_mean']):.3f} ±" in text.replace("\\", "")
    assert WINNER.replace("_", "\\_") in text


def test_the_costs(page: str, written: Report) -> None:
    spent = sum(float(row["cpu_hours"]) for row in table(written, "trials"))
    hours = numbers(part(page, r"<dt>Hours</dt><dd>(.*?)</dd>"))
    assert hours[2] == pytest.approx(spent, abs=5e-3)


def test_tables_have_readable_numbers(written: Report) -> None:
    for name in ("table_one", "differences", "patients", "trials", "plans", "learning_curves"):
        for row in table(written, name):
            for column, cell in row.items():
                digits = re.sub(r"e-?\d+|\D", "", cell).lstrip("0") if re.fullmatch(NUMBER + r"(e-\d+)?", cell) else ""
                assert len(digits) <= 7 and not cell.startswith("{"), (name, column, cell)
    assert table(written, "trials")[0]["config"] == "loss.tumor=2.0"
