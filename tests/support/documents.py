"""The documents of the project, and the commands and code that they show."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Final

import yaml

from support import commands
from support.commands import ROOT

PAGES: Final = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")), "CONTRIBUTING.md")


def read(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Return the text below a heading of the second level."""
    _, _, text = read(page).partition(f"## {heading}\n")
    assert text, f"{page} has no heading '{heading}'"
    return re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, kind: str) -> list[str]:
    """Return the fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell_lines(page: str, heading: str | None = None) -> list[str]:
    """Return the `python -m` lines of a page or a section, without their comments."""
    text = read(page) if heading is None else section(page, heading)
    lines = (line.split("  #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines())
    return [line for line in lines if line.startswith("python -m")]


def python_code(page: str) -> str:
    """Return all Python blocks of a page as one program; blank lines keep the blocks apart."""
    return "\n\n".join(blocks(read(page), "python"))


def notebook_code(page: str) -> str:
    """Return the code cells of a notebook as one program."""
    cells = json.loads(read(page))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


SHORT: Final = {
    "train": {"net": {"width": 4}, "epochs": 2, "steps_per_epoch": 4, "optim": {"batch_size": 2}},
    "search": {"num_trials": 2, "baselines": ["unet3d"]},
    "final": {"tuning_trials": 2},
    "resources": {"max_concurrent": 1},  # another process of a trial would start for longer than it trains
}
"""Settings that make a study short; everything else is run as it is written."""
VALUES: Final = {
    "train": ("net.width=4", "epochs=1", "steps_per_epoch=2"),
    "phantom": ("num_cases=6", "shape=[60,110,110]", "spacing_mm=[4.8,3.2,3.2]"),
    "prepare": ("num_atlases=2",),  # for more, it would paint abdomens
}
"""Settings that make a command of `renalnet` short; scans have the usual size in mm, in fewer voxels."""


def arguments_of(line: str, folder: Path) -> list[str]:
    """Return a command as it is run here: with a short configuration, and the dashboard on a free port."""
    short = folder / "short.yaml"
    short.write_text(yaml.safe_dump(SHORT))
    _, *words = shlex.split(line)
    if "cluster.local" in words:
        words[words.index("--nodes") + 1] = "2"  # a node starts for as long as a short study runs
        words += ["--set", "search.num_trials=1", "--set", "search.baselines=[]"]
    module = next(words[place + 1] for place in reversed(range(len(words))) if words[place] == "-m")
    more = {
        "study.run": ["--config", str(short)],
        "study.dashboard": ["--port", "0", "--no-browser"],
    }
    values = VALUES[words[2]] if words[:2] == ["-m", "renalnet"] and words[2] in VALUES else ()
    more_values = [word for value in values for word in ("--set", value)]
    return [sys.executable, *words, *more.get(module, []), *more_values]


def run_line(line: str, folder: Path) -> str:
    """Return what a command prints. It must succeed."""
    done = commands.run(arguments_of(line, folder), cwd=folder)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout
