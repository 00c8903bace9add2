"""The README's commands, run to the letter but for settings that make the study short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from renalnet.data.volume import grid_difference, read_volume

ROOT = Path(__file__).parents[1]
SHORT = {
    "train": {"net": {"width": 4}, "epochs": 2, "steps_per_epoch": 4, "optim": {"batch_size": 2}},
    "search": {"num_trials": 2, "grace_epochs": 1},
}


def commands(heading: str) -> list[str]:
    """The `python -m` lines of the first shell block below a heading, without their comments."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    return [line.split("  #")[0].strip() for line in block[1].splitlines() if line.startswith("python -m")]


@pytest.mark.slow
def test_own_data_commands(tmp_path: Path) -> None:
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump(SHORT))
    found = commands("Your own data")
    assert len(found) == 6
    for line in found:
        words = shlex.split(line)[1:] + (["--config", str(short)] if "study.run" in line else [])
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    mask, scan = tmp_path / "masks" / "imaging.nii.gz", tmp_path / "cohort" / "case_00000" / "imaging.nii.gz"
    assert grid_difference(read_volume(mask).grid, read_volume(scan).grid) is None
    assert (tmp_path / "results" / "mine" / "report.html").exists()


@pytest.mark.parametrize("command", ["renalnet", "study.run", "study.report"])
def test_help_shows_defaults(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Usage" in done.stdout


def test_readme_names_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets and all((ROOT / target).exists() for target in targets)
