"""Tests of the files that report the checks."""

import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.validation_cases import sound_facts

from renalnet.data.cases.findings import COHORT, Finding
from renalnet.data.checks.validation_file import FACTS_FILE, FINDINGS_FILE, write_validation
from renalnet.runtime import storage

FACTS = [
    sound_facts("a"),
    replace(sound_facts('b, "quoted"'), kidney_hu=None, tumor_hu=None, midline_offset_mm=None, oblique=True),
]
FINDINGS = [
    Finding("a", "warning", "label-cut", "cut; look at it"),
    Finding("a", "warning", "tumor-volume", "tumor of 0.3 ml"),
    Finding("gone", "error", "unreadable", "not readable"),
    Finding(COHORT, "warning", "split-empty", "split 'test' is empty"),
]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_every_fact_and_finding_is_written(tmp_path: Path, scheme: str) -> None:
    where = f"{scheme}{tmp_path}/store"
    write_validation(where, iter(FACTS), iter(FINDINGS))
    assert storage.read_json(storage.join(where, FINDINGS_FILE)) == [asdict(finding) for finding in FINDINGS]
    rows = list(csv.DictReader(storage.read_bytes(storage.join(where, FACTS_FILE)).decode().splitlines()))
    for row, facts in zip(rows, FACTS, strict=False):
        assert {name: row[name] for name in asdict(facts)} == {
            name: "" if value is None else str(value) for name, value in asdict(facts).items()
        }


def test_the_table_has_one_row_per_case_including_unreadable_ones(tmp_path: Path) -> None:
    write_validation(tmp_path, FACTS, FINDINGS)
    with (tmp_path / FACTS_FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["num_errors"], row["num_warnings"]) for row in rows] == [
        ("a", "0", "2"),
        ('b, "quoted"', "0", "0"),
        ("gone", "1", "0"),
    ]
    assert rows[0]["findings"] == "label-cut: cut; look at it; tumor-volume: tumor of 0.3 ml"
    assert rows[1]["kidney_hu"] == ""
    assert rows[0]["kidney_left_ml"] == "91.368"
