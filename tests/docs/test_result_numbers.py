"""The numbers of results/README.md are those of the files in results/evidence."""

import csv
import re
from pathlib import Path

import pytest
from support.documents import read, section

from study.report.analysis.methods import title_of

PAGE = "results/README.md"
EVIDENCE = Path(__file__).parents[2] / "results" / "evidence"
NUMBERS = re.compile(r"\d+(?:\.\d+)?")
STUDIES = {"anatomy": "Anatomy: real label maps, painted images", "quick": "Quick: embedded phantoms"}
TABLES = sorted(path.parent.name for path in EVIDENCE.glob("*/tables.md"))


def rows_of(name: str) -> list[dict[str, str]]:
    with (EVIDENCE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table_lines(text: str) -> dict[str, list[list[str]]]:
    """The numbers of each cell of each row, by the row's first cell without marks."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[first.replace("*", "")] = [NUMBERS.findall(cell) for cell in cells]
    return found


def pair(row: dict[str, str], name: str, digits: int = 3) -> list[str]:
    """Mean and standard deviation as the page rounds them."""
    return [f"{float(row[f'{name}_{part}']):.{digits}f}" for part in ("mean", "sd")]


@pytest.mark.parametrize("study", STUDIES)
def test_table_one(study: str) -> None:
    lines = table_lines(section(PAGE, STUDIES[study]))
    rows = [row for row in rows_of(f"{study}/table_one.csv") if row["role"] != "appendix"]
    assert len(rows) == 5
    rates = rows_of(f"{study}/detection.csv")
    for row in rows:
        cells = lines[title_of(row["network"])]
        assert cells[0] == pair(row, "dice_tumor_where_present")
        assert cells[3:5] == [pair(row, "dice_kidney"), pair(row, "dice_tumor")]
        distances = ["surface_distance_kidney_px", "surface_distance_tumor_px"]
        assert cells[5:7] == [pair(row, name, digits=2) for name in distances]
        own = {
            rate["rate"]: rate for rate in rates if (rate["network"], rate["reading"]) == (row["network"], "patient")
        }
        found, clean = own["sensitivity"], own["specificity"]
        alarms = int(clean["total"]) - int(clean["successes"])
        assert cells[1:3] == [[found["successes"], found["total"]], [str(alarms), clean["total"]]]


def test_stages_of_the_anatomy_study() -> None:
    lines = table_lines(section(PAGE, STUDIES["anatomy"]))
    titles = {
        "network": "network alone",
        "crf": "network + dense CRF",
        "connectivity": "network + connectivity",
        "final": "network + dense CRF + connectivity, as chosen",
    }
    rows = {row["stage"]: row for row in rows_of("anatomy/stages.csv")}
    for stage, title in titles.items():
        row = rows[stage]
        assert lines[title][1] == [f"{float(row[f'dice_{label}_mean']):.3f}" for label in ("tumor", "kidney")]


def test_three_networks_with_the_same_search() -> None:
    text = section(PAGE, "Three networks, the same search")
    validation, _, test = text.partition("20 test cases, full inference: ")
    for place, network in enumerate(("pspnet2d", "unet3d", "fcn_ppm")):
        for seed in range(3):
            trials = [row for row in rows_of(f"networks/seed-{seed}/trials.csv") if row["network"] == network]
            best = max(trials, key=lambda row: float(row["objective"]))
            assert numbers_of(validation, place)[seed] == dice_of(best, "")
            rows = [row for row in rows_of(f"networks/seed-{seed}/table_one.csv") if row["network"] == network]
            (final,) = (row for row in rows if row["role"] in ("winner", "baseline"))
            assert numbers_of(f"| {test}", place)[seed] == dice_of(final, "_mean")


def numbers_of(text: str, place: int) -> list[list[str]]:
    """The numbers of the cells of the row of a network: its place in the part of the table that the text begins or ends
    with."""
    lines = [line for line in text.splitlines() if re.match(r"\| (?!Dice of|---)", line)][:4]
    cells = lines[place].strip("|").split("|")[1:]
    return [NUMBERS.findall(cell) for cell in cells]


def dice_of(row: dict[str, str], end: str) -> list[str]:
    return [f"{float(row[f'dice_{label}{end}']):.3f}" for label in ("tumor", "kidney")]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_evidence_are_on_the_page(name: str) -> None:
    """What `study.evidence` writes as `tables.md` is copied to the page as it is."""
    page = read(PAGE).splitlines()
    lines = (EVIDENCE / name / "tables.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows and [line for line in rows if line not in page] == []
