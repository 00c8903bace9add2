"""The commands in `cluster/README.md` name modules, files and options that exist."""

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from support.commands import run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return the commands of the shell blocks, without comments, with continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line]


def modules() -> set[str]:
    return {name for line in commands() for name in re.findall(r"python -m ([\w.]+)", line)}


def test_modules_are_there() -> None:
    assert {
        "cluster.local",
        "cluster.submit",
        "cluster.wait",
        "study.run",
        "study.report",
        "study.dashboard",
    } <= modules()
    ours = {name for name in modules() if name.split(".")[0] in ("renalnet", "study", "cluster")}
    assert not [name for name in ours if find_spec(name) is None]


@pytest.mark.parametrize("module", ["cluster.local", "cluster.submit", "cluster.wait", "study.run", "study.prepare"])
def test_options_are_there_and_help_shows_defaults(module: str) -> None:
    used = set()
    for line in commands():
        words = shlex.split(line)
        if module in words:
            own = words[words.index(module) + 1 :]
            used |= {word for word in own[: own.index("--")] if word.startswith("--")} if "--" in own else set(own)
    command = [sys.executable, "-m", module, "--help"]
    shown = run(command).stdout
    assert not [word for word in used if word.startswith("--") and word not in shown]
    assert "Usage" in shown


def test_files_are_there() -> None:
    named = set(re.findall(r"\bcluster/[\w/]+(?:\.\w+)?", TEXT))
    assert {"cluster/aws.yaml", "cluster/onprem.yaml", "cluster/slurm.sh", "cluster/Dockerfile"} <= named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_links_lead_to_headings() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links and set(links) <= anchors


def test_kubernetes_names_are_those_of_the_manifests() -> None:
    found = {}
    for path in (ROOT / "cluster" / "kuberay").glob("*.yaml"):
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[manifest["kind"]] = manifest["metadata"]["name"]
    lines = "\n".join(line for line in commands() if line.startswith("kubectl"))
    assert set(found) == {"RayJob", "PersistentVolumeClaim", "Pod"}
    assert f"rayjob {found['RayJob']}" in lines and f"job/{found['RayJob']}" in lines
    assert f"exec {found['Pod']} " in lines and f"{found['Pod']}:/shared" in lines
