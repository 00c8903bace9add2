"""Planning sheets of the test cases, by the truth and by the winner's masks (`renalnet.planning`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.config import LabelSet
from renalnet.planning import Sheet, find_kidneys, measure_kidney, measures_of, spread_of
from renalnet.types import LabelArray, Triple
from study.final.case_jobs import FinalCase, Work
from study.final.views import read_labels
from study.records.tables import PlanningSheet

TRUTH: Final = "truth"
PREDICTION: Final = "prediction"


@dataclass(frozen=True)
class SheetJob:
    """A case whose planning sheets are measured."""

    case: FinalCase
    """The case with the winner."""
    others: tuple[str, ...]
    """Names of the other finalists of the same network, over whose masks the measures spread."""

    def __str__(self) -> str:
        return str(self.case)


def planning_sheets(cases: Sequence[FinalCase], others: Sequence[str], work: Work) -> list[PlanningSheet]:
    """Return one sheet per case, source (`truth` or `prediction`) and kidney of the ROI.

    Args:
        cases: cases with the winner, whose final masks must exist.
        others: names of the other finalists of its network, whose final masks must exist too.
        work: runs the jobs that measure, one for each case.
    """
    jobs = [SheetJob(case, tuple(others)) for case in cases]
    return [sheet for sheets in work.apply(measure_sheets, jobs) for sheet in sheets]


def measure_sheets(job: SheetJob) -> list[PlanningSheet]:
    """Return the sheets of a case by the truth and by the prediction; an empty mask has no kidney and no sheet.

    The spread is over the masks of all finalists, the winner's included. It is empty for the truth, and where the masks
    of other finalists do not show the same kidneys.
    """
    case = job.case
    roi = case.roi()
    own, *others = (
        _measured(read_labels(case.results, name, case.case), roi.spacing_mm, case.label_set)
        for name in (case.finalist.name, *job.others)
    )
    # Sheets of different masks are paired by their place, which needs the same kidneys in the same order.
    alike = [own, *(sheets for sheets in others if [s.side for s in sheets] == [s.side for s in own])]
    truth = [_row(case, TRUTH, sheet, ()) for sheet in _measured(roi.label, roi.spacing_mm, case.label_set)]
    return truth + [_row(case, PREDICTION, sheets[0], sheets) for sheets in zip(*alike, strict=True)]


def _measured(values: LabelArray, spacing_mm: Triple, labels: LabelSet) -> list[Sheet]:
    return [measure_kidney(kidney) for kidney in find_kidneys(values, spacing_mm, labels)]


def _row(case: FinalCase, source: str, sheet: Sheet, over: Sequence[Sheet]) -> PlanningSheet:
    spread = spread_of(over) if len(over) > 1 else {}
    return PlanningSheet(
        case=case.case,
        checkpoint=case.finalist.name,
        source=source,
        **vars(measures_of(sheet)),
        spread=json.dumps(spread),
    )
