"""Planning sheets of test patients, by the truth and by the winner's masks (`renalnet.plan`)."""

from collections.abc import Sequence
from typing import Final

from renalnet import storage
from renalnet.plan import find_kidneys, measure_kidney, measures_of
from renalnet.types import LabelArray, Triple
from study import layout
from study.casework import Patient, Row, Work

TRUTH: Final = "truth"
PREDICTION: Final = "prediction"


def plan_rows(patients: Sequence[Patient], work: Work) -> list[Row]:
    """A row a patient, source (`truth` or `prediction`) and kidney of the ROI.

    Args:
        patients: of one candidate, whose final masks are there.
        work: who measures, a patient a job.
    """
    return [row for rows in work.apply(plan_patient, patients) for row in rows]


def plan_patient(patient: Patient) -> list[Row]:
    """Both sources' sheets of a patient. An empty mask has no kidney and no row."""
    path = layout.roi_labels_path(patient.results, patient.candidate.name, patient.case)
    roi = patient.roi()
    labels = {TRUTH: roi.label, PREDICTION: storage.read_arrays(path)["labels"]}
    about = {"case": patient.case, "checkpoint": patient.candidate.name}
    return [
        {**about, "source": source, **measures}
        for source, mask in labels.items()
        for measures in _sheets(mask, roi.spacing_mm)
    ]


def _sheets(labels: LabelArray, spacing_mm: Triple) -> list[Row]:
    return [measures_of(measure_kidney(kidney)) for kidney in find_kidneys(labels, spacing_mm)]
