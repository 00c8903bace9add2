"""Measures of predicted label maps, case by case, and their summary over a cohort.

No value is NaN or infinite. The rules for empty masks are those of `overlap` and `surface`; a measure that does not
apply is None.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import NotRequired, TypedDict

import numpy as np

from renalnet.config import LabelSet
from renalnet.config.labels import TUMOR
from renalnet.evaluation.detection import MIN_IOU, Detection, Rate, by_patient, by_voxel
from renalnet.evaluation.overlap import Confusion, require_same_shape
from renalnet.evaluation.rows import KIDNEY_AND_MASS, MASS, MEASURES, LabelMeasures, LabelPair, MaskPair, measures_of
from renalnet.types import LabelArray, Triple


def measured_labels(labels: LabelSet) -> tuple[str, ...]:
    """Return the names that `measure` measures: the labels, then the classes of the KiTS challenge."""
    return (*labels.names, KIDNEY_AND_MASS, MASS)


def measure(truth: LabelArray, pred: LabelArray, spacing_mm: Triple, labels: LabelSet) -> list[LabelMeasures]:
    """Measure each label of one case, then the hierarchical classes of the KiTS challenge.

    Args:
        truth: values of `labels` (z, y, x).
        pred: values on the same grid.
        spacing_mm: voxel spacing (z, y, x).
        labels: meaning of the values.

    Returns:
        One entry for each name of `measured_labels`, in that order.

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    own = {label.name: MaskPair(truth == label.value, pred == label.value, spacing_mm) for label in labels.labels}
    both = MaskPair(labels.body_mask(truth), labels.body_mask(pred), spacing_mm)
    # Where the tumor is the only lesion, it has the same voxels as the mass.
    is_only_lesion = len(labels.lesions) == 1
    mass = own[TUMOR] if is_only_lesion else MaskPair(labels.lesion_mask(truth), labels.lesion_mask(pred), spacing_mm)
    lesions = {MASS, *(label.name for label in labels.lesions)}
    pairs = {**own, KIDNEY_AND_MASS: both, MASS: mass}
    return [measures_of(LabelPair(name, pair, name in lesions)) for name, pair in pairs.items()]


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


def summarise(rows: Iterable[LabelMeasures], labels: LabelSet) -> dict[str, LabelSummary]:
    """Return the mean and standard deviation over cases by label; empty masks are included and counted."""
    known = list(rows)
    return {name: _summarise_label([row for row in known if row.label == name]) for name in measured_labels(labels)}


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


def detect(
    rows: Iterable[LabelMeasures], lesion: str = TUMOR, *, seed: int = 0, min_volume_ml: float = 0.0
) -> tuple[Detection, Detection]:
    """Return the detection of a lesion over a cohort, by voxel and by patient.

    A case without the lesion and with more than `min_volume_ml` of it predicted is a false alarm; with 0, one voxel
    suffices.

    Args:
        rows: rows of any labels; only those of `lesion` are read.
        lesion: name of the lesion.
        seed: seed of the bootstrap over cases.
        min_volume_ml: predicted volume that is ignored.
    """
    own = [row for row in rows if row.label == lesion]
    counts = [Confusion(row.true_positive, row.false_positive, row.false_negative, row.true_negative) for row in own]
    found = [bool(row.found) for row in own if not row.truth_empty]
    alarms = [row.volume_pred_ml > min_volume_ml for row in own if row.truth_empty]
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
    other_lesions: NotRequired[dict[str, DetectionEntry]]
    """Detection of each other lesion by its name; only where the label set has one."""
    compared_in_place: NotRequired[list[str]]
    """Cases in which one mask covers only a part of the other one's grid; only where there are any."""


def evaluation(cases: Mapping[str, Sequence[LabelMeasures]], labels: LabelSet, *, seed: int = 0) -> Evaluation:
    """Return the measures of each case, their summary and the detection of lesions, ready for JSON."""
    rows = [row for case in cases.values() for row in case]
    found = Evaluation(
        cases={name: {row.label: _without_label(row) for row in case} for name, case in cases.items()},
        summary=summarise(rows, labels),
        detection=_detection(rows, TUMOR, seed),
    )
    others = [lesion.name for lesion in labels.lesions if lesion != labels.tumor]
    if others:
        found["other_lesions"] = {name: _detection(rows, name, seed) for name in others}
    return found


def _detection(rows: Iterable[LabelMeasures], lesion: str, seed: int) -> DetectionEntry:
    voxel, patient = detect(rows, lesion, seed=seed)
    return DetectionEntry(voxel=_entries(voxel), patient=_entries(patient), min_iou=MIN_IOU)


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
