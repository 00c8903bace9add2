"""Limits on the counts of the source tree that decide how easy it is to extend."""

import statistics
from pathlib import Path

import pytest
from support.code_counts import (
    body_lines,
    folder_sizes,
    functions,
    mutual_pairs,
    percentile,
    read_modules,
    report,
    sentences,
    tuple_assignments,
    typed_share,
)

ROOT = Path(__file__).parents[1]
MODULES = read_modules(ROOT)
MAX_MODULES = 12


def test_folders_hold_few_modules() -> None:
    assert {folder: size for folder, size in folder_sizes(MODULES).items() if size > MAX_MODULES} == {}


def test_no_two_folders_import_each_other() -> None:
    assert mutual_pairs(MODULES) == []


def test_functions_are_short_and_typed() -> None:
    found = functions(MODULES)
    lengths = sorted(map(body_lines, found))
    assert statistics.median(lengths) <= 5
    assert percentile(lengths, 95) <= 16
    assert typed_share(found) >= 0.998


def test_statements_are_not_packed_into_tuples() -> None:
    num_lines = sum(len(module.text.splitlines()) for module in MODULES)
    assert tuple_assignments(MODULES) / num_lines * 1000 <= 3


def test_sentences_of_the_readme_are_short() -> None:
    words = [len(sentence.split()) for sentence in sentences((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert len(words) > 20
    assert statistics.mean(words) <= 18
    assert max(words) <= 40


def test_sentences_leave_out_code_tables_and_headings() -> None:
    prose = "# Head\n\nOne two three. Four\nfive six: seven.\n\n"
    others = "| a | b |\n\n```sh\nmake x\n```\n\n- Eight nine.\n- Ten eleven."
    assert sentences(prose + others) == ["One two three.", "Four five six: seven.", "Eight nine.", "Ten eleven."]


@pytest.mark.slow
def test_every_count_is_reported() -> None:
    assert len(list(report(ROOT))) == 9
