"""A working folder in which the README's commands have been run."""

from pathlib import Path

import pytest
from support.documents import run_line, shell_lines


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands on own scans and on a new scan have been run."""
    folder = tmp_path_factory.mktemp("workspace")
    for heading in ("Use your own scans", "Segment a new scan"):
        for line in shell_lines("README.md", heading):
            run_line(line, folder)
    return folder
