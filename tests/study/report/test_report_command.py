import subprocess
import sys
from pathlib import Path

import pytest
from support import commands

from renalnet.errors import ResultsError
from study.records.results import Results
from study.report import write_report


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return commands.run([sys.executable, "-m", "study.report", *arguments])


def test_a_wrong_folder_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = report(str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is no results folder" in done.stderr


def test_no_write_only_prints(running_study: Path) -> None:
    done = report(str(running_study), "--no-write")
    assert done.returncode == 0, done.stderr
    assert "Best trial so far" in done.stdout
    assert not (running_study / "report.html").exists()


def test_the_library_call_raises(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"name the folder study\.run wrote"):
        write_report(Results(str(tmp_path)))


@pytest.mark.slow
def test_the_report_imports_neither_torch_nor_ray() -> None:
    modules = (
        "study.report.__main__, study.report.pictures.figures, study.report.pages.html, study.report.pictures.overlays"
    )
    heavy = "{'torch', 'ray', 'optuna', 'pandas', 'SimpleITK', 'matplotlib.pyplot'}"
    code = f"import sys, {modules}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_store_without_masks_to_measure_is_refused(running_study: Path) -> None:
    done = report(str(running_study), "--data", "store")
    assert done.returncode == 2 and "--add" in done.stderr
