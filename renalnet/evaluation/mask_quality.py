"""Estimate of the quality of a mask without its truth, from signs in the probabilities and in the anatomy.

There are three kinds of signs:

- agreement: the Dice that is expected if the mean probabilities of the vote are right. Disagreement between sub-volumes
  or between the members of an ensemble lowers it;
- uncertainty: the entropy of these probabilities inside the mask;
- anatomy: volumes, pieces of tumor, the part of the vote that post-processing removed, and whether the border of the
  region cuts the mask off.

The weight of each sign is learned from validation cases, whose truth is known (`Calibration`). The estimate is only as
good as these cases are numerous and similar to the cases it is applied to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.overlap import dice
from renalnet.evaluation.pieces import pieces_of
from renalnet.types import FloatArray, LabelArray, MaskArray, Triple

Values = NDArray[np.float64]
MAX_DEVIATIONS: Final = 3.0
"""Standard deviations from the mean of the known cases, up to which a sign changes an estimate."""
MIN_CASES: Final = 5
"""Least number of cases with a known truth from which an estimate is learned."""
_PENALTIES: Final = tuple(float(penalty) for penalty in 10.0 ** np.arange(-1, 3.5, 0.5))
"""Penalties of the ridge regression that are compared."""
_LEAST_ML: Final = 0.1
"""Smaller volumes count as this one, because the logarithm of 0 is not finite."""


@dataclass(frozen=True)
class Signs:
    """Signs of the quality of a mask that need no truth."""

    expected_dice_kidney: float
    """Kidney Dice, 0 to 1, that is expected if the probabilities are right."""
    expected_dice_tumor: float
    """Tumor Dice, 0 to 1, likewise."""
    entropy_bits: float
    """Mean entropy inside the kidney and its lesions, 0 to log2 of the classes; 0 for an empty mask."""
    kept: float
    """Dice, 0 to 1, of the final mask and the vote, for the kidney and its lesions together."""
    tumor_kept: float
    """The same for the tumor alone."""
    log_kidney_ml: float
    """Logarithm to base 10 of the kidney's volume, which counts as 0.1 ml or more."""
    log_tumor_ml: float
    """The same of the tumor's volume."""
    num_tumors: int
    """Number of pieces of tumor."""
    border: float
    """Share of the mask's voxels on the border of the region, where a kidney may be cut off; 0 to 1."""


def signs_of(
    probability: FloatArray, vote: LabelArray, final: LabelArray, spacing_mm: Triple, labels: LabelSet
) -> Signs:
    """Return the signs of a final mask; an empty mask has signs as well.

    Args:
        probability: class probabilities (C, z, y, x) of the vote.
        vote: labels (z, y, x) of the vote.
        final: labels (z, y, x) after post-processing.
        spacing_mm: voxel spacing (z, y, x).
        labels: meaning of the labels.
    """
    kidney = final == labels.kidney.value
    tumor = final == labels.tumor.value
    inside = labels.body_mask(final)
    ml = voxel_ml(spacing_mm)
    return Signs(
        expected_dice_kidney=expected_dice(probability[labels.kidney.value], kidney),
        expected_dice_tumor=expected_dice(probability[labels.tumor.value], tumor),
        entropy_bits=_mean_entropy(probability, inside),
        kept=dice(labels.body_mask(vote), inside),
        tumor_kept=dice(vote == labels.tumor.value, tumor),
        log_kidney_ml=_log_ml(kidney, ml),
        log_tumor_ml=_log_ml(tumor, ml),
        # Number 0 is everything outside the tumor.
        num_tumors=len(pieces_of(tumor)[1]) - 1,
        border=_border_share(inside),
    )


def _log_ml(mask: MaskArray, voxel_ml: float) -> float:
    return float(np.log10(max(_LEAST_ML, int(mask.sum()) * voxel_ml)))


def expected_dice(probability: FloatArray, mask: MaskArray) -> float:
    """Return the Dice, 0 to 1, that is expected of a mask if each voxel has its class with its probability.

    It is the formula of Dice with expected sums, times the largest probability in the mask, which stands for the
    probability that the truth is not empty. An empty mask gives 1 minus the largest probability anywhere.

    Args:
        probability: probability of the mask's class (z, y, x), 0 to 1.
        mask: boolean mask of the same shape.
    """
    if not mask.any():
        return 1.0 - float(probability.max())
    within = probability[mask]
    # In double precision, because an ROI has millions of float32 voxels.
    overlap = 2 * float(within.sum(dtype=np.float64)) / float(mask.sum() + probability.sum(dtype=np.float64))
    return float(within.max()) * overlap


def _mean_entropy(probability: FloatArray, inside: MaskArray) -> float:
    if not inside.any():
        return 0.0
    # The entropy of 0 is 0, but NumPy gives NaN for 0 · log 0.
    within = np.maximum(probability[:, inside], np.finfo(np.float32).tiny)
    return float(-(within * np.log2(within)).sum(axis=0).mean())


def _border_share(inside: MaskArray) -> float:
    if not inside.any():
        return 0.0
    core = inside[tuple(slice(1, -1) for _ in inside.shape)]
    return 1.0 - float(core.sum()) / float(inside.sum())


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ridge regression of the Dice on standardised signs (Hoerl and Kennard, 1970), for k signs and n known cases."""

    centre: Values
    """Means of the signs over the known cases (k,)."""
    scale: Values
    """Standard deviations of the signs over the known cases (k,); infinite for a sign that is the same in all."""
    weights: Values
    """Weights of the standardised signs (k,)."""
    mean: float
    """Mean Dice over the known cases, 0 to 1."""
    left_out: Values
    """Dice of each known case (n,), estimated from the other ones."""
    error: float
    """Mean absolute error of `left_out`."""

    def estimate(self, signs: Values) -> Values:
        """Return the estimated Dice (m,), 0 to 1, of masks with signs (m, k) in the order of `calibrate`.

        A sign further than `MAX_DEVIATIONS` from those of the known cases counts as that far: beyond it nothing is
        known, and a mask at the end of a scan would else be rated by its border alone.
        """
        standard = np.clip((signs - self.centre) / self.scale, -MAX_DEVIATIONS, MAX_DEVIATIONS)
        return np.clip(self.mean + standard @ self.weights, 0, 1)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists; an infinite scale is None, because JSON has no infinity."""
        scale = [value if np.isfinite(value) else None for value in self.scale.tolist()]
        arrays = {"centre": self.centre.tolist(), "scale": scale, "weights": self.weights.tolist()}
        return {**arrays, "mean": self.mean, "left_out": self.left_out.tolist(), "error": self.error}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_json` wrote. Raises KeyError, TypeError or ValueError for other values."""
        scale = [np.inf if value is None else value for value in values["scale"]]
        centre, weights, left_out = (np.array(values[name], np.float64) for name in ("centre", "weights", "left_out"))
        return cls(centre, np.array(scale, np.float64), weights, values["mean"], left_out, values["error"])


def calibrate(signs: Values, dice_known: Values) -> Calibration | None:
    """Learn the weights of the signs from cases with a known truth; None for fewer than `MIN_CASES`.

    The penalty is the one with the least squared error when each case is estimated from the other ones. With few cases,
    or with signs that do not depend on the Dice, the estimate is therefore near the mean.

    Args:
        signs: signs of the known cases (n, k).
        dice_known: Dice of the known cases (n,), 0 to 1.
    """
    if len(dice_known) < MIN_CASES:
        return None
    spread = signs.std(axis=0)
    centre = signs.mean(axis=0)
    # A constant sign becomes 0 for every case, so it gets no weight and does not change an estimate.
    scale = np.where(spread > 0, spread, np.inf)
    standard = (signs - centre) / scale
    mean = float(dice_known.mean())
    fits = [_ridge(standard, dice_known - mean, penalty) for penalty in _PENALTIES]
    weights, residuals = min(fits, key=lambda fit: float(np.square(fit[1]).mean()))
    left_out = np.clip(dice_known - residuals, 0, 1)
    return Calibration(centre, scale, weights, mean, left_out, float(np.abs(dice_known - left_out).mean()))


def _ridge(standard: Values, centred: Values, penalty: float) -> tuple[Values, Values]:
    """Return the weights (k,), and the residual of each case when it is left out (n,) (Allen's PRESS, 1974)."""
    # A penalty above 0 makes the matrix regular even with constant signs, and keeps each leverage below 1.
    solve = np.linalg.solve(standard.T @ standard + penalty * np.eye(standard.shape[1]), standard.T)
    weights = solve @ centred
    # The intercept, which is not penalised, adds 1 / n to the leverage of each case.
    leverage = np.einsum("ij,ji->i", standard, solve) + 1 / len(centred)
    return weights, (centred - standard @ weights) / (1 - leverage)
