"""Results folders for the tests of the report."""

from pathlib import Path

import pytest
from support.fake_results import curve_rows, trial_rows, write_manifest, write_rows, write_study

from renalnet.config import KITS23
from study.records.results import Results
from study.report import Report, write_report


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; tests that change its files work on a copy."""
    folder = tmp_path_factory.mktemp("results")
    write_study(folder)
    return folder


@pytest.fixture
def running_study(tmp_path: Path) -> Path:
    """A study whose final stage has not run."""
    write_manifest(tmp_path, finished=False)
    write_rows(tmp_path / "trials.parquet", trial_rows())
    write_rows(tmp_path / "curves.parquet", curve_rows())
    return tmp_path


@pytest.fixture(scope="session")
def written(finished_study: Path) -> Report:
    """The report of the finished study, written once."""
    return write_report(Results(str(finished_study)))


@pytest.fixture(scope="session")
def page(written: Report) -> str:
    """The finished study's page."""
    assert written.page is not None
    return Path(written.page).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def with_cysts(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a study with cysts, written once."""
    folder = tmp_path_factory.mktemp("cysts")
    write_study(folder, KITS23)
    return write_report(Results(str(folder)))
