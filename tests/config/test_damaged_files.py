"""Files of configurations and splits from elsewhere: read as valid values, or refused in one line that names a rule."""

import json
from pathlib import Path

import pytest
from support.mutations import Damaged, json_mutations, outcome, text_mutations

from renalnet.config import PrepareConfig, override
from renalnet.config.section import read_file
from renalnet.data.cases.splits import read_splits_file
from renalnet.errors import ConfigError

TEXTS = {
    "prepare": '{"spacing_mm": [1.0, 0.65, 0.65], "localise": "auto", "seed": 3}',
    "train": '{"net": {"name": "fcn_ppm", "width": 16}, "optim": {"milestones": [3, 5]}, "patch": {"flip": true}}',
    "splits": '{"test": ["case_3", "case_7"], "validation": ["case_1"]}',
}
"""JSON, which is YAML too."""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["yaml", "json"])
@pytest.mark.parametrize("kind", TEXTS)
def test_every_field_of_a_file(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"file.{ending}"
    found = []
    for what, content in json_mutations(TEXTS[kind].encode()):
        path.write_bytes(content)
        found.append(outcome(Damaged(kind, path)))
        assert not found[-1].startswith("fault"), (what, found[-1])
    assert sum(one.startswith("refused") for one in found) > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTS)
def test_a_block_of_yaml(tmp_path: Path, kind: str) -> None:
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in json.loads(TEXTS[kind]).items())
    for what, content in text_mutations(text.encode()):
        (tmp_path / "file.yaml").write_bytes(content)
        assert not outcome(Damaged(kind, tmp_path / "file.yaml")).startswith("fault"), what


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "test: [a]\ntest: [b]\n"),
        ("a.yaml", '{"test": ["a"], "test": ["b"]}'),
        ("a.json", '{"test": ["a"], "test": ["b"]}'),
    ],
)
def test_a_split_is_given_once(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"key 'test' is given (twice|in line 1 and again)"):
        read_splits_file(tmp_path / name)


def test_json_may_have_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n\t"test": ["a"]\n}\n')
    assert read_splits_file(tmp_path / "a.json") == {"a": "test"}
    (tmp_path / "b.json").write_text(" \n")
    assert read_file(tmp_path / "b.json") == {}


@pytest.mark.parametrize("spacing", ["0.001", "1000", ".nan", "-1"])
def test_a_spacing_is_one_of_a_scan(spacing: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set: spacing_mm.* (between 0\.1 and 20 mm; give one near|finite)"):
        override(PrepareConfig(), [f"spacing_mm=[{spacing}, 1, 1]"])
    assert override(PrepareConfig(), ["spacing_mm=[20, 0.1, 0.1]"]).spacing_mm == (20.0, 0.1, 0.1)
