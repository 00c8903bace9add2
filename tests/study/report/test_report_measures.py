"""Means of the declared measures, which the page and `classes.csv` show."""

from dataclasses import fields
from pathlib import Path

import pytest
from support.fake_results import metric_row

from renalnet.evaluation.rows import SHOWN, LabelMeasures
from study.records.tables import Measurement
from study.report import Report
from study.report.analysis.measures import compared_means, label_means


def test_means_leave_out_cases_in_which_a_measure_does_not_apply() -> None:
    rows = [
        Measurement(**metric_row("a", "fcn_ppm", "tumor", 0.4), volume_error_ml=-2.0),
        Measurement(**metric_row("b", "fcn_ppm", "tumor", 0.8)),
    ]
    (found,) = label_means(rows)
    assert found.num_cases == 2
    assert found.means["dice"] == pytest.approx(0.6)
    assert found.means["volume_error_ml"] == -2.0
    (unknown,) = label_means(rows[1:])
    assert unknown.means["volume_error_ml"] is None


def test_every_measure_with_values_is_a_column_of_the_page(page: str) -> None:
    assert SHOWN.keys() <= {each.name for each in fields(LabelMeasures)}
    for name, title in SHOWN.items():
        assert (f"<th>{title[:1].upper()}{title[1:]}</th>" in page) == (name in metric_row("a", "fcn_ppm", "tumor", 1))


def test_the_page_leaves_out_the_appendix(written: Report) -> None:
    final = [row for row in written.content.measurements or [] if row.split == "test" and row.stage == "final"]
    checkpoints = [row.method.checkpoint for row in compared_means(final)]
    assert "fcn_ppm-0000" not in checkpoints
    table = Path(written.content.folder.table_path("classes")).read_text()
    assert "fcn_ppm-0000" in table
