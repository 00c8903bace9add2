"""Measures of a folder of masks against a folder of true masks, case by case."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from renalnet.config import KIDNEY_TUMOR, LabelSet
from renalnet.data.cases.names import FIRST_CHANNEL
from renalnet.data.images.mask_files import find_masks
from renalnet.errors import InputError
from renalnet.evaluation.mask_pairs import Pair, read_pair
from renalnet.evaluation.rows import LabelMeasures
from renalnet.evaluation.table import Evaluation, evaluation, measure
from renalnet.runtime.csv_text import to_csv
from renalnet.runtime.workers import JobPool

_MAX_NAMED: Final = 5
"""Missing masks that an error message names."""


@dataclass(frozen=True)
class MeasuredPair:
    """The measures of a case."""

    rows: list[LabelMeasures]
    is_placed: bool
    """Whether one mask covers only a part of the other one's grid."""


def evaluate_folders(
    truth: str | Path, pred: str | Path, pool: JobPool | None = None, *, labels: LabelSet = KIDNEY_TUMOR
) -> Evaluation:
    """Measure each mask of `pred` against the mask of the same name in `truth`.

    A segmentation that 3D Slicer has cropped is compared in its place, with background around it. `predict` names the
    mask of nnU-Net's image `CASE_0000.nii.gz` likewise; it is compared with the truth `CASE`.

    Args:
        truth: folder of true masks.
        pred: folder of predicted masks.
        pool: processes that measure the cases; None to measure them in this process.
        labels: meaning of the masks' values.

    Raises:
        InputError: a folder is missing or empty, or a mask has no partner, another grid or other labels.
    """
    truth = Path(truth)
    pred = Path(pred)
    true_masks = find_masks(truth)
    pred_masks = _of_cases(find_masks(pred), true_masks.keys())
    _require_partners(true_masks.keys(), pred, pred_masks.keys())
    _require_partners(pred_masks.keys(), truth, true_masks.keys())
    cases = sorted(true_masks)
    pairs = [Pair(true_masks[case], pred_masks[case], labels) for case in cases]
    measured = dict(zip(cases, pool.map(measure_pair, pairs) if pool else map(measure_pair, pairs), strict=True))
    found = evaluation({case: one.rows for case, one in measured.items()}, labels)
    compared = [case for case, one in measured.items() if one.is_placed]
    if compared:
        found["compared_in_place"] = compared
    return found


def _of_cases(masks: Mapping[str, Path], cases: Set[str]) -> dict[str, Path]:
    """Return masks by the names of their cases. A mask may have the name of the case's image in nnU-Net's layout."""
    known = {f"{case}_{FIRST_CHANNEL}": case for case in cases if case not in masks}
    return {name if name in cases else known.get(name, name): path for name, path in masks.items()}


def _require_partners(wanted: Set[str], folder: Path, there: Set[str]) -> None:
    missing = sorted(wanted - there)
    if missing:
        names = ", ".join(missing[:_MAX_NAMED]) + (", …" if len(missing) > _MAX_NAMED else "")
        raise InputError(
            f"{folder}: lacks {len(missing)} of {len(wanted)} masks ({names}); add them or remove the others"
        )


def as_csv(result: Evaluation) -> bytes:
    """Return the measures as UTF-8 CSV, one row per case and label; measures that do not apply are empty cells."""
    rows = [
        {"case": case, "label": label, **measures}
        for case, by_label in result["cases"].items()
        for label, measures in by_label.items()
    ]
    return to_csv(rows)


def measure_pair(pair: Pair) -> MeasuredPair:
    """Read and measure a case. Raises InputError where its masks cannot be read or compared."""
    read = read_pair(pair)
    rows = measure(read.truth.array, read.pred.array, read.truth.grid.spacing_mm, pair.labels)
    return MeasuredPair(rows, read.is_placed)
