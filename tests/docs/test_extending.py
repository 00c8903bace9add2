"""`docs/extending.md`: what it adds is added to a copy of the source tree, and the tests that it shows pass there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from renalnet.config import label_set

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
MAX_FILES = 2
LABEL_SET = "A label set"
"""Heading of the section that changes no code. `test_commands_of_a_page` runs its commands."""


def sections() -> dict[str, str]:
    """Text of each section by its heading."""
    _, *parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(kind: str, text: str) -> list[str]:
    """Fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def new_files(text: str) -> dict[str, str]:
    """Path and content of the modules that a section shows."""
    return {block.splitlines()[0].removeprefix("# "): block.partition("\n")[2] for block in blocks("python", text)}


def changed_files(text: str) -> set[str]:
    """Paths of the diffs of a section."""
    return {block.splitlines()[0].removeprefix("--- a/") for block in blocks("diff", text)}


def apply(diff: str, tree: Path) -> None:
    """Replace the lines that a diff shows; they must occur once."""
    header, *lines = diff.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines)
    path = tree / header.removeprefix("--- a/")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"docs/extending.md: {path.name} does not hold these lines once:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("heading", [heading for heading in sections() if heading != LABEL_SET])
def test_an_addition_touches_two_files_beside_its_test(heading: str) -> None:
    text = sections()[heading]
    touched = {*new_files(text), *changed_files(text)}
    tests = {path for path in touched if path.startswith("tests/")}
    assert len(tests) == 1 and len(touched - tests) <= MAX_FILES


def test_a_label_set_changes_no_code() -> None:
    text = sections()[LABEL_SET]
    assert not new_files(text) and not changed_files(text)
    (block,) = blocks("yaml", text)
    labels = label_set(yaml.safe_load(block))
    assert [label.name for label in labels.body] == ["kidney", "tumor", "cyst"]
    assert labels.names[3:] == ("renal_artery", "renal_vein")


@pytest.mark.slow
def test_all_additions_together_pass_their_tests(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("renalnet", "study", "cluster", "tests", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    tests = []
    for text in sections().values():
        for path, content in new_files(text).items():
            assert not (tree / path).exists()
            (tree / path).write_text(content, encoding="utf-8")
        for diff in blocks("diff", text):
            apply(diff, tree)
        tests += [path for path in new_files(text) if path.startswith("tests/")]
    tests.append("tests/test_imports.py::test_imports_go_one_way_between_folders")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
