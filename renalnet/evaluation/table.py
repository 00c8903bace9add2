"""All measures of a predicted label map as rows, and what a cohort's rows come to.

Rows are plain dictionaries, so that they go to Parquet and JSON as they are. No value is NaN or infinite: the
rules for empty masks are those of `overlap` and `surface`; what does not apply is None.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import numpy as np

from renalnet.evaluation.detection import MIN_IOU, Detection, Rate, by_patient, by_voxel, tumor_found
from renalnet.evaluation.overlap import Confusion, confusion, require_same_shape, volume_ml
from renalnet.evaluation.surface import SurfaceDistances, SurfacePair
from renalnet.types import BACKGROUND, FOREGROUND_LABELS, KIDNEY, LABEL_NAMES, TUMOR, LabelArray, MaskArray, Triple

KIDNEY_AND_MASS: Final = "kidney_and_mass"
MASS: Final = "mass"
TOLERANCE_MM: Final[dict[str, float]] = {
    LABEL_NAMES[KIDNEY]: 1.0331,
    LABEL_NAMES[TUMOR]: 1.1498,
    KIDNEY_AND_MASS: 1.0331,
    MASS: 1.1329,
}
"""Surface Dice tolerances of the KiTS challenge (2021) by class, the paper's two first. The challenge has none for the
kidney alone, which takes that of kidney and mass. A mass is a tumor or a cyst; our labels know no cysts."""
MEASURES: Final = (
    "dice",
    "surface_distance_mm",
    "surface_distance_px",
    "hd95_mm",
    "surface_dice",
    "volume_truth_ml",
    "volume_pred_ml",
    "volume_error_ml",
)
"""The columns of a row that `summarise` takes mean and standard deviation of."""
_PIXELS: Final = (1.0, 1.0, 1.0)


class LabelMeasures(TypedDict):
    """One label of one patient."""

    label: str
    """`kidney` or `tumor`, the paper's; `kidney_and_mass` or `mass`, those of the KiTS challenge."""
    dice: float
    """0 to 1."""
    surface_distance_mm: float
    """Mean symmetric distance of the surfaces."""
    surface_distance_px: float
    """The same with unit spacing on the same grid, as in the paper's Table I."""
    hd95_mm: float
    """The larger directed 95th percentile."""
    surface_dice: float
    """0 to 1, at the label's `TOLERANCE_MM`."""
    volume_truth_ml: float
    volume_pred_ml: float
    volume_error_ml: float
    """Predicted less true."""
    volume_error_share: float | None
    """Of the true volume; None where the truth is empty."""
    true_positive: int
    """Voxels, as the next three."""
    false_positive: int
    false_negative: int
    true_negative: int
    truth_empty: bool
    pred_empty: bool
    found: bool | None
    """Tumor, mass: a predicted component has IoU ≥ 0.1 with the tumor, None without a tumor. Else None."""


def measure(truth: LabelArray, pred: LabelArray, spacing_mm: Triple) -> list[LabelMeasures]:
    """Rows for kidney and tumor of one patient, then for the hierarchical classes of the KiTS challenge.

    Args:
        truth: labels 0, 1, 2 (z, y, x).
        pred: labels on the same grid.
        spacing_mm: voxel spacing (z, y, x).

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    kidney, tumor = (_Pair.of(truth == label, pred == label) for label in FOREGROUND_LABELS)
    both = _Pair.of(truth != BACKGROUND, pred != BACKGROUND)
    found = tumor_found(tumor.truth, tumor.pred)
    millimetres, pixels = tumor.surfaces.distances(spacing_mm), tumor.surfaces.distances(_PIXELS)
    return [
        _row(LABEL_NAMES[KIDNEY], kidney, spacing_mm),
        _row(LABEL_NAMES[TUMOR], tumor, spacing_mm, found, (millimetres, pixels)),
        _row(KIDNEY_AND_MASS, both, spacing_mm),
        _row(MASS, tumor, spacing_mm, found, (millimetres, pixels)),
    ]


@dataclass(frozen=True, eq=False)
class _Pair:
    """A class of truth and prediction, and what their rows need."""

    truth: MaskArray
    pred: MaskArray
    surfaces: SurfacePair

    @classmethod
    def of(cls, truth: MaskArray, pred: MaskArray) -> "_Pair":
        return cls(truth, pred, SurfacePair.of(truth, pred))


def _row(
    label: str,
    pair: _Pair,
    spacing_mm: Triple,
    found: bool | None = None,
    known: tuple[SurfaceDistances, SurfaceDistances] | None = None,
) -> LabelMeasures:
    """`known`: distances in mm and in pixels where another class of the same masks has them."""
    counts = confusion(pair.truth, pair.pred)
    distances, in_pixels = known or (pair.surfaces.distances(spacing_mm), pair.surfaces.distances(_PIXELS))
    truth_ml, pred_ml = (volume_ml(number, spacing_mm) for number in (counts.num_truth, counts.num_pred))
    return LabelMeasures(
        label=label,
        dice=counts.dice,
        surface_distance_mm=distances.mean_mm,
        surface_distance_px=in_pixels.mean_mm,
        hd95_mm=distances.hd95_mm,
        surface_dice=distances.surface_dice(TOLERANCE_MM[label]),
        volume_truth_ml=truth_ml,
        volume_pred_ml=pred_ml,
        volume_error_ml=pred_ml - truth_ml,
        volume_error_share=(pred_ml - truth_ml) / truth_ml if truth_ml else None,
        true_positive=counts.true_positive,
        false_positive=counts.false_positive,
        false_negative=counts.false_negative,
        true_negative=counts.true_negative,
        truth_empty=counts.num_truth == 0,
        pred_empty=counts.num_pred == 0,
        found=found,
    )


Summary = dict[str, float | None]


class LabelSummary(TypedDict):
    """One label over a cohort."""

    num_cases: int
    num_truth_empty: int
    """Patients without this label; they are in the means."""
    num_pred_empty: int
    """Patients for whom nothing of this label was predicted; they are in the means."""
    mean: Summary
    """Of each of `MEASURES`; None without a case."""
    sd: Summary
    """Standard deviation over patients (n - 1); None for fewer than two."""


def summarise(rows: Iterable[LabelMeasures]) -> dict[str, LabelSummary]:
    """Mean and standard deviation over patients of each class; empty masks stay in and are counted."""
    known = list(rows)
    return {name: _summarise_label([row for row in known if row["label"] == name]) for name in TOLERANCE_MM}


def _summarise_label(rows: Sequence[LabelMeasures]) -> LabelSummary:
    columns = {name: [float(row[name]) for row in rows] for name in MEASURES}
    return LabelSummary(
        num_cases=len(rows),
        num_truth_empty=sum(row["truth_empty"] for row in rows),
        num_pred_empty=sum(row["pred_empty"] for row in rows),
        mean={name: float(np.mean(values)) if values else None for name, values in columns.items()},
        sd={name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in columns.items()},
    )


def detect(rows: Iterable[LabelMeasures], *, seed: int = 0, min_volume_ml: float = 0.0) -> tuple[Detection, Detection]:
    """Tumor detection over a cohort, by voxel and by patient.

    A healthy kidney with more than `min_volume_ml` of predicted tumor is a false alarm; with 0, a voxel
    suffices.

    Args:
        rows: of any labels; those of tumor are read.
        seed: of the bootstrap over patients.
        min_volume_ml: predicted tumor that is forgiven.
    """
    tumors = [row for row in rows if row["label"] == LABEL_NAMES[TUMOR]]
    counts = [
        Confusion(row["true_positive"], row["false_positive"], row["false_negative"], row["true_negative"])
        for row in tumors
    ]
    found = [bool(row["found"]) for row in tumors if not row["truth_empty"]]
    alarms = [row["volume_pred_ml"] > min_volume_ml for row in tumors if row["truth_empty"]]
    return by_voxel(counts, seed=seed), by_patient(found, alarms)


RateEntry = dict[str, float | int | None]
LabelEntry = dict[str, float | int | bool | None]


class DetectionEntry(TypedDict):
    """Detection as `evaluate` writes it; `voxel` and `patient` hold `sensitivity` and `specificity`."""

    voxel: dict[str, RateEntry]
    patient: dict[str, RateEntry]
    min_iou: float


class Evaluation(TypedDict):
    """What `evaluate` writes."""

    cases: dict[str, dict[str, LabelEntry]]
    """Case to label to its measures."""
    summary: dict[str, LabelSummary]
    detection: DetectionEntry


def evaluation(cases: Mapping[str, Sequence[LabelMeasures]], *, seed: int = 0) -> Evaluation:
    """The rows of `measure` of each case, their summary and tumor detection, ready for JSON."""
    rows = [row for case in cases.values() for row in case]
    voxel, patient = detect(rows, seed=seed)
    return Evaluation(
        cases={name: {row["label"]: _without_label(row) for row in case} for name, case in cases.items()},
        summary=summarise(rows),
        detection=DetectionEntry(voxel=_entries(voxel), patient=_entries(patient), min_iou=MIN_IOU),
    )


def _without_label(row: LabelMeasures) -> LabelEntry:
    measures: dict[str, Any] = {**row}
    del measures["label"]
    return measures


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
