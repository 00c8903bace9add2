"""A report before it is drawn: the rows of a results folder and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.records.tables import Results, load_results
from study.report.analysis.added import Added, find_store, measure_added
from study.report.analysis.detection import Detected, detections_of
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import Summary, summarise


@dataclass(frozen=True)
class Programs:
    """Other programs whose masks take part in the report."""

    folders: Sequence[tuple[str, Path]]
    """Name and folder of each."""
    data: str | None = None
    """The study's store, where it is not where the study found it."""


@dataclass(frozen=True)
class Report:
    """Everything the terminal and the page show."""

    results: Results
    settings: Settings
    summary: Summary
    detections: list[Detected]
    added: list[Added]
    """Other programs' masks, which are among the results' measurements as well."""
    page: str | None = None
    """Where `report.html` was written; None if it was not."""


def analyse(results_path: str, settings: Settings, programs: Programs | None = None) -> Report:
    """Read a results folder and compute the report, with other programs' masks where some are named.

    Raises:
        ResultsError: this is no results folder, a file in it is damaged, or its store is not at hand for the masks.
        InputError: masks cannot be read or compared.
    """
    results, added = load_results(results_path), list[Added]()
    if programs and programs.folders:
        store = find_store(results_path, results.manifest, programs.data)
        added = [measure_added(name, folder, store) for name, folder in programs.folders]
        results = _with_added(results, added)
    final = [row for row in results.measurements or [] if row.split == "test" and row.stage == "final"]
    return Report(results, settings, summarise(results, settings), detections_of(final, settings), added)


def _with_added(results: Results, added: Sequence[Added]) -> Results:
    rows = [row for one in added for row in one.measurements]
    labels = {one.name: one.labels for one in added}
    return replace(results, measurements=[*(results.measurements or []), *rows], added_labels=labels)
