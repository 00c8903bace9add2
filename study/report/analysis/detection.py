"""Tumor detection of each method over the test cases, by `renalnet.evaluation.detection`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from renalnet.evaluation.detection import Detection, by_patient, by_voxel
from renalnet.evaluation.overlap import Confusion
from study.records.tables import APPENDIX, Measurement
from study.report.analysis.methods import Method, method_of, method_place
from study.report.analysis.statistics import Settings


@dataclass(frozen=True)
class MethodDetection:
    """Sensitivity and specificity of one method, by voxel and by patient."""

    method: Method
    voxel: Detection
    patient: Detection


def detections_of(final: Iterable[Measurement], settings: Settings) -> list[MethodDetection]:
    """Return the tumor detection of each method in the order of the tables; the appendix is left out.

    Args:
        final: measurements on the test cases after the final stage; only rows of the tumor are read.
        settings: of the intervals.
    """
    groups: dict[Method, list[Measurement]] = {}
    for row in final:
        if row.label == "tumor" and row.role != APPENDIX:
            groups.setdefault(method_of(row), []).append(row)
    found = [_detection(method, rows, settings) for method, rows in groups.items()]
    return sorted(found, key=lambda row: method_place(row.method))


def _detection(method: Method, rows: Sequence[Measurement], settings: Settings) -> MethodDetection:
    counts = [Confusion(row.true_positive, row.false_positive, row.false_negative, row.true_negative) for row in rows]
    voxel = by_voxel(counts, seed=settings.seed, num_resamples=settings.resamples, confidence=settings.confidence)
    found = [bool(row.found) for row in rows if not row.truth_empty]
    # Without a true tumor there is no IoU, so any predicted voxel is an alarm.
    alarms = [not row.pred_empty for row in rows if row.truth_empty]
    return MethodDetection(method, voxel, by_patient(found, alarms, confidence=settings.confidence))
