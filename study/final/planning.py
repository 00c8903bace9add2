"""Planning sheets of the test cases, by the truth and by the winner's masks (`renalnet.planning`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from renalnet.planning import Kidney, find_kidneys, measure_kidney, measures_of, spread_of
from study.final.case_jobs import FinalCase, Work
from study.final.views import read_labels
from study.records.tables import PREDICTION, TRUTH, PlanningSheet


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
        find_kidneys(read_labels(case.results, name, case.case), roi.spacing_mm, case.label_set)
        for name in (case.finalist.name, *job.others)
    )
    # Sheets of different masks are paired by their place, which needs the same kidneys in the same order.
    alike = [own, *(kidneys for kidneys in others if [k.side for k in kidneys] == [k.side for k in own])]
    truth = [_row(case, TRUTH, [kidney]) for kidney in find_kidneys(roi.label, roi.spacing_mm, case.label_set)]
    return truth + [_row(case, PREDICTION, kidneys) for kidneys in zip(*alike, strict=True)]


def _row(case: FinalCase, source: str, kidneys: Sequence[Kidney]) -> PlanningSheet:
    """Return the sheet of the first kidney; its measures spread over all of them, which are the same one by others."""
    sheets = [measure_kidney(kidney) for kidney in kidneys]
    return PlanningSheet(
        case=case.case,
        checkpoint=case.finalist.name,
        source=source,
        **vars(measures_of(sheets[0])),
        spread=json.dumps(spread_of(sheets) if len(sheets) > 1 else {}),
        warnings="; ".join(kidneys[0].warnings),
    )
