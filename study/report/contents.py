"""A report before it is drawn: the rows of a results folder and what follows from them."""

from dataclasses import dataclass

from study.report.detection import Detected, detections_of
from study.report.rows import Results, load_results
from study.report.statistics import Settings
from study.report.summary import Summary, summarise


@dataclass(frozen=True)
class Report:
    """Everything the terminal and the page show."""

    results: Results
    settings: Settings
    summary: Summary
    detections: list[Detected]
    page: str | None = None
    """Where `report.html` was written; None if it was not."""


def analyse(results_path: str, settings: Settings) -> Report:
    """Read a results folder and compute the report. Raises ResultsError."""
    results = load_results(results_path)
    final = [row for row in results.measurements or [] if row.split == "test" and row.stage == "final"]
    return Report(results, settings, summarise(results, settings), detections_of(final, settings))
