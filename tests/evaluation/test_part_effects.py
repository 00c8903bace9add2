"""The table of an ablation, and the lines that show it."""

import io
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from renalnet.commands.app import app
from renalnet.commands.describe import _print_worth
from renalnet.errors import InputError
from renalnet.evaluation import part_effects
from renalnet.evaluation.part_effects import ALL_CASES, PartEffect, read_effects, worth_lines
from renalnet.runtime.csv_text import to_csv


def effect(**changes: Any) -> PartEffect:
    numbers = {each.name: 0.25 for each in fields(PartEffect) if each.type is float}
    counts = {each.name: 3 for each in fields(PartEffect) if each.type is int}
    words = {"part": "crf-off", "choice": "dense CRF", "title": "no dense CRF", "split": "test", "cases": ALL_CASES}
    return PartEffect(**{**numbers, **counts, **words, "is_chosen": False, **changes})


def write(path: Path, *effects: PartEffect) -> Path:
    path.write_bytes(to_csv([asdict(each) for each in effects]))
    return path


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = [effect(), effect(is_chosen=True, split="validation", tumor=-0.125)]
    assert read_effects(write(tmp_path / "parts.csv", *written)) == written


def test_each_choice_has_a_line() -> None:
    shown = effect(tumor=-0.0204, tumor_low=-0.05, tumor_high=0.01)
    others = [effect(split="validation"), effect(cases="tumors above 70 mm")]
    second = effect(choice="stitching", title="mean", tumor=0.0, tumor_low=-0.001, tumor_high=0.002)
    third = effect(choice="stitching", title="Gaussian", tumor=0.1, tumor_low=0.05, tumor_high=0.15)
    lines = worth_lines([shown, *others, second, third])
    assert len(lines) == 9
    assert lines[0] == "pyramid pooling: not measured"
    assert "dense CRF: no dense CRF -0.020 (-0.050 to +0.010)" in lines
    assert "stitching: mean +0.000 (-0.001 to +0.002); Gaussian +0.100 (+0.050 to +0.150)" in lines


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("a,b\n1,2\n", "no table of an ablation"), ("part\nx\n", "no table of an ablation")],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "other.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_effects(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_describe_says_what_the_choices_are_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path / "parts.csv", effect())
    words = ["describe", "--set", "net.width=4", "--set", "patch.shape=[12,8,8]", "--effects", str(table)]
    given = CliRunner().invoke(app, words).output
    assert f"from {table}:" in given
    assert "- dense CRF: no dense CRF +0.250 (+0.250 to +0.250)" in given
    assert shown(table, monkeypatch) in given
    assert "measured by `python -m study.bench parts`:\n- pyramid pooling: not measured\n" in shown(
        tmp_path / "none.csv", monkeypatch
    )


def shown(own: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `describe` says where `own` is the table of the project."""
    monkeypatch.setattr(part_effects, "OWN_TABLE", own)
    stream = io.StringIO()
    _print_worth(Console(file=stream, markup=False, width=80), None)
    return stream.getvalue()
