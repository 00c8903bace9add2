"""Every command and snippet of README, docs and notebook is run; links and targets exist."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import commands
from support.commands import ROOT
from support.documents import PAGES, arguments_of, blocks, notebook_code, python_code, read, run_line, shell_lines

from renalnet.data.images.volume import grid_difference, read_volume
from renalnet.nets import build_net
from renalnet.nets.bundle import read_config, save_model


@pytest.mark.slow
def test_readme_in_order(workspace: Path) -> None:
    mask = workspace / "masks" / "imaging.nii.gz"
    scan = workspace / "cohort" / "case_00000" / "imaging.nii.gz"
    assert grid_difference(read_volume(mask).grid, read_volume(scan).grid) is None
    assert (workspace / "results" / "mine" / "report.html").exists()
    assert (workspace / "kidney.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/data.md", "docs/prediction.md", "docs/extending.md"])
def test_commands_of_a_page(page: str, workspace: Path) -> None:
    run_page(page, workspace)


@pytest.mark.slow
def test_commands_of_the_nnunet_page(workspace: Path, untrained_winner: None) -> None:
    run_page("docs/nnunet.md", workspace)
    masks = {path.name for path in (workspace / "masks-roi").glob("*.nii.gz")}
    assert masks == {path.name for path in (workspace / "nnUNet_raw").glob("*/imagesTs/*.nii.gz")} != set()
    assert json.loads((workspace / "metrics.json").read_text())["cases"]


@pytest.fixture
def untrained_winner(workspace: Path) -> Iterator[None]:
    """The winner's network before its training, which labels some voxels kidney. After few steps, it labels none."""
    best = workspace / "results" / "mine" / "best"
    own = shutil.copytree(best, best.with_name("best-of-study"))
    config = read_config(best)
    torch.manual_seed(0)
    save_model(best, dict(build_net(config.train.net, config.train.labels).state_dict()), config)
    yield
    shutil.rmtree(best)
    own.rename(best)


def run_page(page: str, workspace: Path) -> None:
    """Run the commands of a page that the README does not have, with the files that the page shows."""
    for block in blocks(read(page), "yaml"):
        name, _, content = block.partition("\n")
        (workspace / name.removeprefix("# ")).write_text(content)
    run_before = shell_lines("README.md")
    lines = [line for line in shell_lines(page) if line not in run_before]
    assert lines
    for line in lines:
        run_line(line, workspace)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_commands_of_the_study_page(workspace: Path) -> None:
    forecast, same, dashboard, report, extension = shell_lines("docs/study.md")
    assert "wall time" in run_line(forecast, workspace)
    run_line(same, workspace)
    check_dashboard(dashboard, workspace)
    assert "Table I" in run_line(report, workspace)
    run_line(extension.replace("num_trials=10", "num_trials=3"), workspace)  # the study has 2
    assert len(list((workspace / "results" / "mine" / "trials").glob("fcn_ppm-*/trial.json"))) == 3


@pytest.mark.slow
def test_nodes_on_this_machine(workspace: Path) -> None:
    line, _ = shell_lines("README.md", "Run on a cluster")
    run_line(f"{line} --data {workspace / 'store'} --results {workspace / 'results' / 'nodes'}", workspace)
    assert (workspace / "results" / "nodes" / "report.html").exists()


def check_dashboard(line: str, folder: Path) -> None:
    """Serve, open the address that is printed, interrupt."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    words = arguments_of(line, folder)
    with commands.running(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout and "3 of 3 trials ended" in serving.stdout.readline()
        url = serving.stdout.readline().split()[-1]
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        serving.send_signal(signal.SIGINT)
        said, _ = serving.communicate(timeout=60)
    assert serving.returncode == 0 and said.endswith("ended\n")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python-api.md", "docs/tour.ipynb"])
def test_python_of_a_page(page: str, workspace: Path) -> None:
    code = notebook_code(page) if page.endswith(".ipynb") else python_code(page)
    assert code
    program = workspace / f"{Path(page).stem}.py"
    program.write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, program.name], cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[a-z-]+\.md)", read("README.md")))
    assert linked == {page for page in PAGES if page.startswith("docs/")}
    assert {"docs/data.md", "docs/gpus.md", "docs/viewers.md", "docs/nnunet.md", "docs/configuration.md"} <= linked
    for words in ("## Installing with pip alone", "## How many patients", "## Citing"):
        assert words in read("docs/start.md")
    assert "## 3D Slicer" in read("docs/viewers.md") and "## OHIF" in read("docs/viewers.md")


def test_pages_show_no_other_python() -> None:
    """A page with Python is one that the tests above run, or `docs/extending.md`, which has a test of its own."""
    pages = {page for page in PAGES if blocks(read(page), "python")}
    assert pages == {"README.md", "docs/python-api.md", "docs/extending.md"}


def test_make_targets_exist() -> None:
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.MULTILINE)}
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    assert {"study", "test", "lint"} <= named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", read(page)) if "://" not in target]
    assert all((ROOT / page).parent.joinpath(target).exists() for target in targets)


@pytest.mark.parametrize(
    "module", ["renalnet", "study.run", "study.report", "study.dashboard", "cluster.local", "cluster.submit"]
)
def test_help_shows_usage(module: str) -> None:
    assert "Usage" in commands.run([sys.executable, "-m", module, "--help"]).stdout
