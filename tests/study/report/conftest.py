"""Results folders for the tests of the report."""

import pickle
import shutil
from pathlib import Path

import pytest
from support.fake_results import curve_rows, trial_rows, write_manifest, write_rows, write_study
from support.made_once import made_once

from renalnet.config import KITS23
from study.records.results import Results
from study.report import Report, write_report


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study that all processes read; tests that change its files work on a copy."""
    return made_once(tmp_path_factory, "report-study", write_study)


@pytest.fixture
def running_study(tmp_path: Path) -> Path:
    """A study whose final stage has not run."""
    write_manifest(tmp_path, finished=False)
    write_rows(tmp_path / "trials.parquet", trial_rows())
    write_rows(tmp_path / "curves.parquet", curve_rows())
    return tmp_path


@pytest.fixture(scope="session")
def written(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the finished study, written once into a copy, because other processes read the study itself."""

    def make(folder: Path) -> None:
        shutil.copytree(finished_study, folder / "study")
        write(folder)

    return reported(made_once(tmp_path_factory, "report-written", make))


@pytest.fixture(scope="session")
def page(written: Report) -> str:
    """The finished study's page."""
    assert written.page is not None
    return Path(written.page).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def with_cysts(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a study with cysts, written once."""

    def make(folder: Path) -> None:
        write_study(folder / "study", KITS23)
        write(folder)

    return reported(made_once(tmp_path_factory, "report-cysts", make))


def write(folder: Path) -> None:
    """Write the report of the study in a folder, and keep what `write_report` returns for other processes."""
    report = write_report(Results(str(folder / "study")))
    (folder / "report.pickle").write_bytes(pickle.dumps(report))


def reported(folder: Path) -> Report:
    """Return what `write` keeps."""
    report: Report = pickle.loads((folder / "report.pickle").read_bytes())
    return report
