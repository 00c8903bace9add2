"""The content of a report before anything is drawn: the rows of a results folder and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.records.content import ResultsContent, load_results
from study.records.results import Results
from study.records.tables import PREDICTION, PlanningSheet
from study.report.analysis.added import Added, find_store, measure_added
from study.report.analysis.detection import MethodDetection, detections_of
from study.report.analysis.learned import Learned, learned_of
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import Summary, final_test_rows, summarise


@dataclass(frozen=True)
class Programs:
    """Other programs whose masks the report compares."""

    folders: Sequence[tuple[str, Path]]
    """Name and folder of masks of each program."""
    data: str | None = None
    """The study's store; None to look where the study found it."""


@dataclass(frozen=True)
class Report:
    """Everything that the terminal and the page show."""

    content: ResultsContent
    settings: Settings
    summary: Summary
    detections: list[MethodDetection]
    """By lesion, the tumor first, then by method."""
    added: list[Added]
    """Other programs' masks; their measurements are part of the content as well."""
    learned: Learned
    """What the search says about its parameters."""
    page: str | None = None
    """Path of `report.html`; None where it was not written."""

    @property
    def warnings(self) -> list[str]:
        """Warnings of the study, without the failures, which the report shows apart."""
        return [text for text in self.content.manifest.warnings if text not in self.summary.failures]

    @property
    def implausible(self) -> list[PlanningSheet]:
        """Sheets of the winner's masks with a measure that no real kidney has; earlier versions wrote none."""
        return [sheet for sheet in self.content.plans if sheet.source == PREDICTION and sheet.warnings]


def analyse(results: Results, settings: Settings, programs: Programs | None = None) -> Report:
    """Read a results folder and compute the content of its report, with other programs' masks where given.

    Raises:
        ResultsError: the folder is not a results folder, a file in it is damaged, or its store was not found.
        InputError: masks of a program cannot be read or compared.
    """
    content = load_results(results)
    added = list[Added]()
    if programs and programs.folders:
        store = find_store(results, content.manifest, programs.data)
        added = [measure_added(name, folder, store) for name, folder in programs.folders]
        # Before the summary, which treats programs like methods of the study.
        content = _with_added(content, added)
    detections = detections_of(final_test_rows(content), content.labels, settings)
    return Report(content, settings, summarise(content, settings), detections, added, learned_of(content))


def _with_added(content: ResultsContent, added: Sequence[Added]) -> ResultsContent:
    rows = [row for one in added for row in one.measurements]
    labels = {one.name: one.labels for one in added}
    return replace(content, measurements=[*(content.measurements or []), *rows], added_labels=labels)
