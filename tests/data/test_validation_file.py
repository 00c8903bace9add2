"""A validation written and read back, and one that was damaged."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from validation_cases import sound_facts

from renalnet.data.check.findings import COHORT, Finding
from renalnet.data.check.validation_file import FACTS_FILE, FINDINGS_FILE, Validation, read_validation, write_validation
from renalnet.errors import InputError

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
def test_what_is_written_is_read_back(tmp_path: Path, scheme: str) -> None:
    where = f"{scheme}{tmp_path}/store"
    write_validation(where, iter(FACTS), iter(FINDINGS))
    assert read_validation(where) == Validation(FACTS, FINDINGS)


def test_the_table_has_a_row_a_case_those_unread_too(tmp_path: Path) -> None:
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


def test_a_validation_of_nobody_is_read_back(tmp_path: Path) -> None:
    write_validation(tmp_path, [], [])
    assert read_validation(tmp_path) == Validation([], [])


DAMAGES: list[Callable[[str], str]] = [
    lambda text: text[:-200],
    lambda text: text[:-1],
    lambda text: text + "c,0,0,,40\n",
    lambda text: text.replace("40,60,100,3.0", "40,60,100,three"),
    lambda text: text.replace("False", "perhaps"),
    lambda text: text.replace("hu_min", "hu_low"),
    lambda _: "",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused(tmp_path: Path, damage: Callable[[str], str]) -> None:
    write_validation(tmp_path, FACTS, FINDINGS[:1])
    file = tmp_path / FACTS_FILE
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match="not a table of facts"):
        read_validation(tmp_path)


@pytest.mark.parametrize("content", ["[{}]", "7", '[{"case": "a"}]', "{"])
def test_damaged_findings_are_refused(tmp_path: Path, content: str) -> None:
    write_validation(tmp_path, FACTS, FINDINGS)
    (tmp_path / FINDINGS_FILE).write_text(content)
    with pytest.raises(InputError, match=FINDINGS_FILE):
        read_validation(tmp_path)


def test_no_validation_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_validation(tmp_path)
