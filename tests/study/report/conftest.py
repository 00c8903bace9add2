"""Results folders for the tests of the report."""

from pathlib import Path

import pytest
from support.fake_results import (
    curve_rows,
    importance_rows,
    metric_rows,
    plan_rows,
    quality_rows,
    trial_rows,
    write_manifest,
    write_rows,
    write_views,
)

from study.records.results import Results
from study.report import Report, write_report


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; tests that change its files work on a copy."""
    folder = tmp_path_factory.mktemp("results")
    write_manifest(folder)
    write_rows(folder / "trials.parquet", trial_rows())
    write_rows(folder / "curves.parquet", curve_rows())
    write_rows(folder / "final" / "metrics.parquet", metric_rows())
    write_rows(folder / "importances.parquet", importance_rows())
    write_rows(folder / "final" / "quality.parquet", quality_rows())
    write_rows(folder / "final" / "plan.parquet", plan_rows())
    write_views(folder / "final" / "views")
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
