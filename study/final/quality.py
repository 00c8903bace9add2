"""Which of the winner's masks are likely bad, estimated without their truth (`renalnet.evaluation.mask_quality`).

To the signs of a mask comes how far the other finalists of the same network agree with it on the tumor. What these
tell is learned on the validation patients; each of them is itself estimated by the others.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.mask_quality import Calibration, calibrate
from renalnet.evaluation.overlap import dice
from renalnet.runtime import storage
from renalnet.types import TUMOR, MaskArray
from study.final.case_jobs import Row
from study.finalists.finalists import Finalist
from study.records import paths


def quality_rows(results: str, winner: Finalist, others: Sequence[Finalist], measured: Iterable[Row]) -> list[Row]:
    """A row a validation and test patient: the signs of its final mask, and the tumor Dice that they let expect.

    Args:
        results: where the final stage has left masks and signs.
        winner: whose masks are judged.
        others: the other finalists of its network; where there are none, their agreement is not among the signs.
        measured: rows of `metrics.parquet`; only validation patients' Dice is looked at.

    No rows where there are fewer than five validation patients: then nothing can be learned from them.
    """
    final = [row for row in measured if _is_final_tumor(row, winner)]
    rows = [
        {"case": row["case"], "split": row["split"], "checkpoint": winner.name, **_signs(results, winner, others, row)}
        for row in final
    ]
    known = [row["split"] == "validation" for row in final]
    signs = np.array([list(row.values())[3:] for row in rows], dtype=np.float64)
    dice_known = np.array([row["dice"] for row, is_known in zip(final, known, strict=True) if is_known])
    calibration = calibrate(signs[known], dice_known) if rows else None
    if calibration is None:
        return []
    expected = _expected(calibration, signs, np.array(known))
    about = {"expected_error": calibration.error, "num_known": len(dice_known)}
    return [{**row, "expected_dice": float(value), **about} for row, value in zip(rows, expected, strict=True)]


def _is_final_tumor(row: Row, winner: Finalist) -> bool:
    return (row["checkpoint"], row["stage"], row["label"]) == (winner.name, "final", "tumor")


def _signs(results: str, winner: Finalist, others: Sequence[Finalist], row: Row) -> Row:
    case = row["case"]
    signs: Row = storage.read_json(paths.signs_path(results, winner.name, case))
    if not others:
        return signs
    own = _tumor(results, winner, case)
    return {**signs, "agreement": fmean(dice(own, _tumor(results, other, case)) for other in others)}


def _tumor(results: str, candidate: Finalist, case: str) -> MaskArray:
    mask: MaskArray = storage.read_arrays(paths.roi_labels_path(results, candidate.name, case))["labels"] == TUMOR
    return mask


def _expected(calibration: Calibration, signs: NDArray[np.float64], known: MaskArray) -> NDArray[np.float64]:
    expected = calibration.estimate(signs)
    expected[known] = calibration.left_out
    return expected
