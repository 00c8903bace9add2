"""A working folder in which the README's commands have been run."""

from pathlib import Path

import pytest
from support.documents import run_line, shell_lines
from support.layouts import add_layouts
from support.made_once import made_once


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands on own scans and on a new scan have been run.

    The store has six scans in folders as in KiTS, as the README, and three in each of two other layouts.
    """
    return made_once(tmp_path_factory, "workspace", run_readme)


def run_readme(folder: Path) -> None:
    folder.mkdir()
    for heading in ("Use your own scans", "Segment a new scan"):
        for line in shell_lines("README.md", heading):
            run_line(line, folder)
            if "renalnet prepare" in line:
                add_layouts(folder)
