"""The scripts that train other programs on an exported store; they import nothing of the project."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ROOT

from renalnet.data.store.nnunet import export_nnunet
from renalnet.data.store.reader import Store
from study.report.analysis.added import measure_added

SCRIPTS = sorted((ROOT / "results" / "other_programs").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_without_the_project(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names and not {name.split(".")[0] for name in names} & {"renalnet", "study", "cluster"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_shows_each_script_with_options_that_it_has(script: Path) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if f"results/other_programs/{script.name} " in line)
    options = [word for word in line.partition(script.name)[2].split() if word.startswith("--")]
    assert options and all(f'"{option}"' in script.read_text(encoding="utf-8") for option in options)


@pytest.mark.slow
def test_a_network_of_monai_segments_the_test_cases_of_a_store(ball_store: Store, tmp_path: Path) -> None:
    data = export_nnunet(ball_store, tmp_path, 101, "Balls")
    options = ["--hours", "0.002", "--processors", "1", "--crop", "16", "16", "16", "--out", str(tmp_path / "masks")]
    script = str(ROOT / "results" / "other_programs" / "monai_train.py")
    done = subprocess.run(
        [sys.executable, script, "--data", data, *options], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "validation Dice" in done.stdout
    found = measure_added("segresnet", tmp_path / "masks", ball_store)
    assert not found.missing
    assert {row.case for row in found.measurements} == set(ball_store.cases("test"))
