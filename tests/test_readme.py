"""The README's commands, run to the letter but for settings that make the study short."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from renalnet.data.images.volume import grid_difference, read_volume

ROOT = Path(__file__).parents[1]
SHORT = {
    "train": {"net": {"width": 4}, "epochs": 2, "steps_per_epoch": 4, "optim": {"batch_size": 2}},
    "search": {"num_trials": 2},
}


def commands(heading: str) -> list[str]:
    """The `python -m` lines of the first shell block below a heading, without their comments."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    return [line.split("  #")[0].strip() for line in block[1].splitlines() if line.startswith("python -m")]


def words_of(line: str, folder: Path) -> list[str]:
    """A command as it is run here: with a short configuration, and the dashboard on a free port."""
    short = folder / "short.yaml"
    short.write_text(yaml.safe_dump(SHORT))
    more = {"study.run": ["--config", str(short)], "study.dashboard": ["--port", "0", "--no-browser"]}
    _, _, module, *words = shlex.split(line)
    return [sys.executable, "-m", module, *words, *more.get(module, [])]


def run(line: str, folder: Path) -> str:
    """What a command prints. It must succeed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words_of(line, folder), cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_own_data_commands(tmp_path: Path) -> None:
    found = commands("Your own data")
    assert len(found) == 8
    for line in found:
        run(line, tmp_path)
    forecast, dashboard, extension = commands("Before, during and after a study")
    assert "wall time" in run(forecast, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    serving = subprocess.Popen(
        words_of(dashboard, tmp_path), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    with serving:
        assert "4 of 4 trials ended" in serving.stdout.readline()  # type: ignore[union-attr]
        url = serving.stdout.readline().split()[-1]  # type: ignore[union-attr]
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        serving.send_signal(signal.SIGINT)
        said, _ = serving.communicate(timeout=60)
    assert serving.returncode == 0 and said.endswith("ended\n")
    run(extension, tmp_path)
    assert len(list((tmp_path / "results" / "mine" / "trials").glob("fcn_ppm-*/trial.json"))) == 10
    mask, scan = tmp_path / "masks" / "imaging.nii.gz", tmp_path / "cohort" / "case_00000" / "imaging.nii.gz"
    assert grid_difference(read_volume(mask).grid, read_volume(scan).grid) is None
    assert (tmp_path / "results" / "mine" / "report.html").exists()


@pytest.mark.parametrize(
    "command", ["renalnet", "study.run", "study.report", "study.dashboard", "cluster.local", "cluster.submit"]
)
def test_help_shows_defaults(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Usage" in done.stdout


def test_readme_names_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets and all((ROOT / target).exists() for target in targets)
