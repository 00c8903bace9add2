"""Tumor detection of each method over the test patients, by `renalnet.evaluation.detection`."""

from collections.abc import Iterable
from dataclasses import dataclass

from renalnet.evaluation.detection import Detection, by_patient, by_voxel
from renalnet.evaluation.overlap import Confusion
from study.records.tables import Measurement
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import Method, method_of, method_order


@dataclass(frozen=True)
class Detected:
    """Sensitivity and specificity of one method, by voxel and by patient."""

    method: Method
    voxel: Detection
    patient: Detection


def detections_of(final: Iterable[Measurement], settings: Settings) -> list[Detected]:
    """From the tumor rows of the final stage, a row a method; the appendix is left out."""
    groups: dict[Method, list[Measurement]] = {}
    for row in final:
        if row.label == "tumor" and row.role != "appendix":
            groups.setdefault(method_of(row), []).append(row)
    found = [_detected(who, rows, settings) for who, rows in groups.items()]
    return sorted(found, key=lambda row: method_order(row.method))


def _detected(who: Method, rows: Iterable[Measurement], settings: Settings) -> Detected:
    patients = list(rows)
    counts = [
        Confusion(row.true_positive, row.false_positive, row.false_negative, row.true_negative) for row in patients
    ]
    voxel = by_voxel(counts, seed=settings.seed, num_resamples=settings.resamples, confidence=settings.confidence)
    found = [bool(row.found) for row in patients if not row.truth_empty]
    alarms = [not row.pred_empty for row in patients if row.truth_empty]
    return Detected(who, voxel, by_patient(found, alarms, confidence=settings.confidence))
