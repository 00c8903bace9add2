"""Estimates of the Dice of the winner's masks without their truth (`renalnet.evaluation.mask_quality`).

The relation of signs and Dice is learned on the validation cases. Each of these is estimated from the other ones. For
the tumor of the study's own cases, the agreement of the other finalists of the same network is one more sign. A model
bundle holds the winner alone, so its estimates do without this sign.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.config.labels import KIDNEY, TUMOR
from renalnet.evaluation.mask_quality import Calibration, Signs, calibrate
from renalnet.evaluation.overlap import dice
from renalnet.inference.post_processing import FINAL
from renalnet.inference.quality_file import LearnedQuality
from renalnet.types import MaskArray
from study.final.views import read_labels
from study.finalists.finalists import Finalist
from study.records.files import damaged, read_object
from study.records.results import Results
from study.records.tables import Measurement, Quality


def quality_rows(
    results: Results,
    winner: Finalist,
    others: Sequence[Finalist],
    measurements: Iterable[Measurement],
    labels: LabelSet,
) -> list[Quality]:
    """Return one row for each validation and test case: the signs of its final mask and the expected tumor Dice.

    Args:
        results: the results folder with the masks and signs of the final stage.
        winner: the finalist whose masks are judged.
        others: the other finalists of its network; without any, agreement is not one of the signs.
        measurements: rows of `metrics.parquet`, of which only the Dice of validation cases is read.
        labels: labels of the masks.

    Returns:
        The rows in the order of the measurements; empty for fewer than five validation cases, which are too few.
    """
    final = [row for row in measurements if _is_final(row, winner, TUMOR)]
    signs = [_signs(results, winner, others, row.case, labels) for row in final]
    known = np.array([row.split == "validation" for row in final])
    # The columns have the order of the fields of `Signs`, in which the JSON files were written.
    values = np.array([list(each.values()) for each in signs], dtype=np.float64)
    dice_known = np.array([row.dice for row, is_known in zip(final, known, strict=True) if is_known])
    # Without rows these arrays have neither the shape nor the type that an index needs.
    calibration = calibrate(values[known], dice_known) if final else None
    if calibration is None:
        return []
    about: dict[str, Any] = {
        "checkpoint": winner.name,
        "expected_error": calibration.error,
        "num_known": len(dice_known),
    }
    expected = _expected(calibration, values, known)
    return [
        Quality(case=row.case, split=row.split, **each, expected_dice=float(value), **about)
        for row, each, value in zip(final, signs, expected, strict=True)
    ]


def learned_quality(
    results: Results, winner: Finalist, measurements: Iterable[Measurement], *, study: str, synthetic: bool
) -> LearnedQuality | None:
    """Return what the winner's bundle needs to estimate the quality of its masks; None for too few validation cases.

    Args:
        results: the results folder with the signs of the final stage.
        winner: the finalist of the bundle.
        measurements: rows of `metrics.parquet`, of which only the Dice of validation cases is read.
        study: name of the study.
        synthetic: whether its images are painted.
    """
    final = [row for row in measurements if row.split == "validation"]
    kidney, tumor = (_calibration(results, winner, final, label) for label in (KIDNEY, TUMOR))
    return LearnedQuality(kidney, tumor, study, synthetic) if kidney and tumor else None


def _calibration(
    results: Results, winner: Finalist, validation: Iterable[Measurement], label: str
) -> Calibration | None:
    rows = [row for row in validation if _is_final(row, winner, label)]
    if not rows:
        return None
    signs = [Signs(**read_signs(results.signs_path(winner.name, row.case))) for row in rows]
    return calibrate(np.array([astuple(each) for each in signs]), np.array([row.dice for row in rows]))


def read_signs(path: str) -> dict[str, Any]:
    """Read the signs of one mask, by the fields of `Signs` in their order. Raises ResultsError if damaged."""
    values = read_object(path)
    names = [each.name for each in fields(Signs)]
    if list(values) != names or not all(isinstance(value, int | float) for value in values.values()):
        raise damaged(path, "not the signs of a mask")
    return values


def _is_final(row: Measurement, winner: Finalist, label: str) -> bool:
    return (row.checkpoint, row.stage, row.label) == (winner.name, FINAL, label)


def _signs(
    results: Results, winner: Finalist, others: Sequence[Finalist], case: str, labels: LabelSet
) -> dict[str, Any]:
    signs = read_signs(results.signs_path(winner.name, case))
    if not others:
        return signs
    # On the validation cases of the anatomy study this sign told most: rank correlation 0.80 (results/LOG.md).
    own = _tumor(results, winner, case, labels)
    return {**signs, "agreement": fmean(dice(own, _tumor(results, other, case, labels)) for other in others)}


def _tumor(results: Results, finalist: Finalist, case: str, labels: LabelSet) -> MaskArray:
    mask: MaskArray = read_labels(results, finalist.name, case) == labels.tumor.value
    return mask


def _expected(calibration: Calibration, signs: NDArray[np.float64], known: MaskArray) -> NDArray[np.float64]:
    expected = calibration.estimate(signs)
    # A validation case is part of the calibration, so its estimate comes from the calibration without it.
    expected[known] = calibration.left_out
    return expected
