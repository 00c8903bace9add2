"""Detection of lesions by each method over the test cases, by `renalnet.evaluation.detection`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from renalnet.config import LabelSet
from renalnet.config.labels import Label
from renalnet.evaluation.detection import Detection, by_patient, by_voxel
from renalnet.evaluation.overlap import Confusion
from study.records.tables import APPENDIX, Measurement
from study.report.analysis.methods import Method, method_of, method_place
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import lesions_of


@dataclass(frozen=True)
class MethodDetection:
    """Sensitivity and specificity of one method for one lesion, by voxel and by patient."""

    method: Method
    label: str
    """Name of the lesion."""
    voxel: Detection
    patient: Detection


def detections_of(final: Sequence[Measurement], labels: LabelSet, settings: Settings) -> list[MethodDetection]:
    """Return the detection of each lesion by each method, the tumor first, in the order of the tables.

    The appendix is left out.

    Args:
        final: measurements on the test cases after the final stage; only rows of lesions are read.
        labels: labels of the study.
        settings: of the intervals.
    """
    return [found for lesion in lesions_of(labels) for found in _of_lesion(final, lesion, settings)]


def _of_lesion(final: Iterable[Measurement], lesion: Label, settings: Settings) -> list[MethodDetection]:
    groups: dict[Method, list[Measurement]] = {}
    for row in final:
        if row.label == lesion.name and row.role != APPENDIX:
            groups.setdefault(method_of(row), []).append(row)
    found = [_detection(method, lesion, rows, settings) for method, rows in groups.items()]
    return sorted(found, key=lambda row: method_place(row.method))


def _detection(method: Method, lesion: Label, rows: Sequence[Measurement], settings: Settings) -> MethodDetection:
    counts = [Confusion(row.true_positive, row.false_positive, row.false_negative, row.true_negative) for row in rows]
    voxel = by_voxel(counts, seed=settings.seed, num_resamples=settings.resamples, confidence=settings.confidence)
    found = [bool(row.found) for row in rows if not row.truth_empty]
    # Without a true lesion there is no IoU, so any predicted voxel is an alarm.
    alarms = [not row.pred_empty for row in rows if row.truth_empty]
    return MethodDetection(method, lesion.name, voxel, by_patient(found, alarms, confidence=settings.confidence))
