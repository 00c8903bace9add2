"""Measures of predicted label maps, case by case, and their summary over a cohort.

No value is NaN or infinite. The rules for empty masks are those of `overlap` and `surface`; a measure that does not
apply is None.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TypedDict

import numpy as np

from renalnet.evaluation.detection import MIN_IOU, Detection, Rate, by_patient, by_voxel
from renalnet.evaluation.overlap import Confusion, require_same_shape
from renalnet.evaluation.rows import MEASURES, TOLERANCE_MM, LabelMeasures, LabelPair, MaskPair, measures_of
from renalnet.types import BACKGROUND, FOREGROUND_LABELS, LABEL_NAMES, TUMOR, LabelArray, Triple


def measure(truth: LabelArray, pred: LabelArray, spacing_mm: Triple) -> list[LabelMeasures]:
    """Measure kidney and tumor of one case, then the hierarchical classes of the KiTS challenge.

    Args:
        truth: labels 0, 1, 2 (z, y, x).
        pred: labels on the same grid.
        spacing_mm: voxel spacing (z, y, x).

    Returns:
        One entry for each label of `TOLERANCE_MM`, in that order.

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    kidney, tumor = (MaskPair(truth == label, pred == label, spacing_mm) for label in FOREGROUND_LABELS)
    both = MaskPair(truth != BACKGROUND, pred != BACKGROUND, spacing_mm)
    # Tumor and mass are the same voxels, because label maps here have no cysts.
    masks = dict(zip(TOLERANCE_MM, (kidney, tumor, both, tumor), strict=True))
    return [measures_of(LabelPair(label, pair)) for label, pair in masks.items()]


Summary = dict[str, float | None]


class LabelSummary(TypedDict):
    """Summary of one label over a cohort."""

    num_cases: int
    """Number of cases."""
    num_truth_empty: int
    """Number of cases without this label; they are part of the means."""
    num_pred_empty: int
    """Number of cases in which this label was not predicted; they are part of the means."""
    mean: Summary
    """Mean of each of `MEASURES` over the cases in which it applies; None where there is no such case."""
    sd: Summary
    """Standard deviation over these cases (n - 1); None for fewer than two."""


def summarise(rows: Iterable[LabelMeasures]) -> dict[str, LabelSummary]:
    """Return the mean and standard deviation over cases by label; empty masks are included and counted."""
    known = list(rows)
    return {name: _summarise_label([row for row in known if row.label == name]) for name in TOLERANCE_MM}


def _summarise_label(rows: Sequence[LabelMeasures]) -> LabelSummary:
    columns = {name: _values(rows, name) for name in MEASURES}
    return LabelSummary(
        num_cases=len(rows),
        num_truth_empty=sum(row.truth_empty for row in rows),
        num_pred_empty=sum(row.pred_empty for row in rows),
        mean={name: float(np.mean(values)) if values else None for name, values in columns.items()},
        sd={name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in columns.items()},
    )


def _values(rows: Iterable[LabelMeasures], name: str) -> list[float]:
    values = (getattr(row, name) for row in rows)
    return [float(value) for value in values if value is not None]


def mean_and_sd(summary: LabelSummary, name: str) -> str:
    """Return the mean and standard deviation of a measure as people read them; a dash where it applies to no case."""
    mean = summary["mean"][name]
    return "–" if mean is None else f"{mean:.3f} ± {summary['sd'][name] or 0:.3f}"


def detect(rows: Iterable[LabelMeasures], *, seed: int = 0, min_volume_ml: float = 0.0) -> tuple[Detection, Detection]:
    """Return tumor detection over a cohort, by voxel and by patient.

    A case without a tumor and with more than `min_volume_ml` of predicted tumor is a false alarm; with 0, one voxel
    suffices.

    Args:
        rows: rows of any labels; only those of the tumor are read.
        seed: seed of the bootstrap over cases.
        min_volume_ml: volume of predicted tumor that is ignored.
    """
    tumors = [row for row in rows if row.label == LABEL_NAMES[TUMOR]]
    counts = [Confusion(row.true_positive, row.false_positive, row.false_negative, row.true_negative) for row in tumors]
    found = [bool(row.found) for row in tumors if not row.truth_empty]
    alarms = [row.volume_pred_ml > min_volume_ml for row in tumors if row.truth_empty]
    return by_voxel(counts, seed=seed), by_patient(found, alarms)


RateEntry = dict[str, float | int | None]
LabelEntry = dict[str, float | int | bool | None]


class DetectionEntry(TypedDict):
    """Detection in the JSON file of `renalnet evaluate`."""

    voxel: dict[str, RateEntry]
    """`sensitivity` and `specificity` by voxel."""
    patient: dict[str, RateEntry]
    """`sensitivity` and `specificity` by patient."""
    min_iou: float
    """IoU from which a tumor counts as found."""


class Evaluation(TypedDict):
    """Content of the JSON file of `renalnet evaluate`."""

    cases: dict[str, dict[str, LabelEntry]]
    """Measures by case and label."""
    summary: dict[str, LabelSummary]
    """Summary by label."""
    detection: DetectionEntry
    """Tumor detection over all cases."""


def evaluation(cases: Mapping[str, Sequence[LabelMeasures]], *, seed: int = 0) -> Evaluation:
    """Return the measures of each case, their summary and the tumor detection, ready for JSON."""
    rows = [row for case in cases.values() for row in case]
    voxel, patient = detect(rows, seed=seed)
    return Evaluation(
        cases={name: {row.label: _without_label(row) for row in case} for name, case in cases.items()},
        summary=summarise(rows),
        detection=DetectionEntry(voxel=_entries(voxel), patient=_entries(patient), min_iou=MIN_IOU),
    )


def _without_label(row: LabelMeasures) -> LabelEntry:
    return {name: value for name, value in asdict(row).items() if name != "label"}


def _entries(detection: Detection) -> dict[str, RateEntry]:
    return {"sensitivity": _entry(detection.sensitivity), "specificity": _entry(detection.specificity)}


def _entry(rate: Rate) -> RateEntry:
    return {
        "value": rate.value,
        "low": rate.interval.low,
        "high": rate.interval.high,
        "successes": rate.successes,
        "total": rate.total,
    }
