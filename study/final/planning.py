"""Planning sheets of test patients, by the truth and by the winner's masks (`renalnet.planning`)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from renalnet.planning import Sheet, find_kidneys, measure_kidney, measures_of, spread_of
from renalnet.types import LabelArray, Triple
from study.final.case_jobs import FinalCase, Work
from study.final.views import read_labels
from study.records.tables import PlanningSheet

TRUTH: Final = "truth"
PREDICTION: Final = "prediction"


@dataclass(frozen=True)
class PlanJob:
    """A patient of the winner, and who else has masks of it."""

    patient: FinalCase
    others: tuple[str, ...]
    """Names of the other finalists of the same network, over whose masks the measures spread."""

    def __str__(self) -> str:
        return str(self.patient)


def plan_rows(patients: Sequence[FinalCase], others: Sequence[str], work: Work) -> list[PlanningSheet]:
    """A row a patient, source (`truth` or `prediction`) and kidney of the ROI.

    Args:
        patients: of the winner, whose final masks are there.
        others: names of the other finalists of its network, whose masks are there too.
        work: who measures, a patient a job.
    """
    jobs = [PlanJob(patient, tuple(others)) for patient in patients]
    return [row for rows in work.apply(plan_patient, jobs) for row in rows]


def plan_patient(job: PlanJob) -> list[PlanningSheet]:
    """Both sources' sheets of a patient. An empty mask has no kidney and no row.

    `spread` is JSON: the least and largest of each measure over the finalists' masks, the winner's among them; of the
    truth, and where finalists show different kidneys, nothing.
    """
    patient = job.patient
    roi = patient.roi()
    own, *others = (
        _sheets(read_labels(patient.results, name, patient.case), roi.spacing_mm)
        for name in (patient.finalist.name, *job.others)
    )
    alike = [own, *(sheets for sheets in others if [s.side for s in sheets] == [s.side for s in own])]
    truth = [_row(patient, TRUTH, sheet, ()) for sheet in _sheets(roi.label, roi.spacing_mm)]
    return truth + [_row(patient, PREDICTION, sheets[0], sheets) for sheets in zip(*alike, strict=True)]


def _sheets(labels: LabelArray, spacing_mm: Triple) -> list[Sheet]:
    return [measure_kidney(kidney) for kidney in find_kidneys(labels, spacing_mm)]


def _row(patient: FinalCase, source: str, sheet: Sheet, over: Sequence[Sheet]) -> PlanningSheet:
    spread = spread_of(over) if len(over) > 1 else {}
    return PlanningSheet(
        case=patient.case,
        checkpoint=patient.finalist.name,
        source=source,
        **asdict(measures_of(sheet)),
        spread=json.dumps(spread),
    )
