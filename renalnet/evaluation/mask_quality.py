"""How far a mask can be trusted where no truth is known, by what the networks and the anatomy say of it.

The signs are of three kinds. Agreement: the Dice that is to be expected if the vote's mean probabilities hold, which
sub-volumes and members of an ensemble that disagree lower. Doubt: the entropy of these probabilities inside the mask.
Anatomy: volumes, pieces of tumor, how much of the vote the steps behind it took away, and whether the mask is cut off
by the border of its region. How much each tells is learned from validation patients (`Calibration`), whose truth is
known, so that the estimate is no better than they are many and alike to the patients that it is asked about.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.overlap import dice
from renalnet.inference.components import pieces_of
from renalnet.types import BACKGROUND, FOREGROUND_LABELS, KIDNEY, TUMOR, FloatArray, LabelArray, MaskArray, Triple

Values = NDArray[np.float64]
MIN_PATIENTS: Final = 5
"""With a known truth, from which an estimate is learned."""
_PENALTIES: Final = tuple(float(penalty) for penalty in 10.0 ** np.arange(-1, 3.5, 0.5))
_MM3_PER_ML: Final = 1000.0
_LEAST_ML: Final = 0.1


@dataclass(frozen=True)
class Signs:
    """What is known of a mask without its truth."""

    expected_dice_kidney: float
    """0-1, if the probabilities hold."""
    expected_dice_tumor: float
    entropy_bits: float
    """Mean over kidney and tumor, 0 to log2(3); 0 of an empty mask."""
    kept: float
    """Dice of the final kidney and tumor together with the vote's, 0-1."""
    tumor_kept: float
    """Of the tumor alone."""
    log_kidney_ml: float
    """Logarithm to base 10, of at least 0.1 ml."""
    log_tumor_ml: float
    num_tumors: int
    """Pieces that are apart."""
    border: float
    """Share of the mask's voxels that lie on the border of the region, where a kidney may be cut off."""


def signs_of(probability: FloatArray, vote: LabelArray, final: LabelArray, spacing_mm: Triple) -> Signs:
    """Of a final mask and the vote that it was made of.

    Args:
        probability: (3, z, y, x), of the vote.
        vote: labels (z, y, x).
        final: labels behind the steps that follow the vote; empty ones give a sign as well.
        spacing_mm: of the voxels (z, y, x).
    """
    expected = {label: expected_dice(probability[label], final == label) for label in FOREGROUND_LABELS}
    ml = float(np.prod(spacing_mm)) / _MM3_PER_ML
    volumes = [max(_LEAST_ML, int((final == label).sum()) * ml) for label in FOREGROUND_LABELS]
    inside = final != BACKGROUND
    return Signs(
        expected_dice_kidney=expected[KIDNEY],
        expected_dice_tumor=expected[TUMOR],
        entropy_bits=_mean_entropy(probability, inside),
        kept=dice(vote != BACKGROUND, inside),
        tumor_kept=dice(vote == TUMOR, final == TUMOR),
        log_kidney_ml=float(np.log10(volumes[0])),
        log_tumor_ml=float(np.log10(volumes[1])),
        num_tumors=len(pieces_of(final == TUMOR)[1]) - 1,
        border=_border_share(inside),
    )


def expected_dice(probability: FloatArray, mask: MaskArray) -> float:
    """The Dice of a mask if each of its voxels is right with its probability, and there is anything with the largest.

    Dice's own formula with the sums that the probabilities lead to expect, times the largest probability in the mask.
    An empty mask is right, Dice 1, unless there is something: 1 less the largest probability anywhere.

    Args:
        probability: of the mask's class, 0-1, (z, y, x).
        mask: of the same shape.
    """
    if not mask.any():
        return 1.0 - float(probability.max())
    within = probability[mask]
    overlap = 2 * float(within.sum(dtype=np.float64)) / float(mask.sum() + probability.sum(dtype=np.float64))
    return float(within.max()) * overlap


def _mean_entropy(probability: FloatArray, inside: MaskArray) -> float:
    if not inside.any():
        return 0.0
    within = np.maximum(probability[:, inside], np.finfo(np.float32).tiny)
    return float(-(within * np.log2(within)).sum(axis=0).mean())


def _border_share(inside: MaskArray) -> float:
    if not inside.any():
        return 0.0
    core = inside[tuple(slice(1, -1) for _ in inside.shape)]
    return 1.0 - float(core.sum()) / float(inside.sum())


@dataclass(frozen=True, eq=False)
class Calibration:
    """What each sign tells of the Dice: a ridge regression on standardised signs (Hoerl and Kennard, 1970)."""

    centre: Values
    scale: Values
    """Standard deviations over the patients learned from; infinite for a sign that was the same in all."""
    weights: Values
    mean: float
    """Dice over the patients learned from."""
    left_out: Values
    """What is estimated of each of them by all the others."""
    error: float
    """Mean absolute error of these."""

    def estimate(self, signs: Values) -> Values:
        """Dice, 0-1, of masks whose signs are (n, k), in the order of those learned from."""
        return np.clip(self.mean + (signs - self.centre) / self.scale @ self.weights, 0, 1)


def calibrate(signs: Values, dice_known: Values) -> Calibration | None:
    """Learn from patients whose truth is known; None where they are fewer than five.

    The penalty is the one of least squared error when each patient is estimated by the others, so that few patients or
    signs that tell nothing give an estimate near the mean.

    Args:
        signs: (n, k).
        dice_known: (n,), 0-1.
    """
    if len(dice_known) < MIN_PATIENTS:
        return None
    spread = signs.std(axis=0)
    centre, scale = signs.mean(axis=0), np.where(spread > 0, spread, np.inf)
    standard, mean = (signs - centre) / scale, float(dice_known.mean())
    fits = [_ridge(standard, dice_known - mean, penalty) for penalty in _PENALTIES]
    weights, residuals = min(fits, key=lambda fit: float(np.square(fit[1]).mean()))
    left_out = np.clip(dice_known - residuals, 0, 1)
    return Calibration(centre, scale, weights, mean, left_out, float(np.abs(dice_known - left_out).mean()))


def _ridge(standard: Values, centred: Values, penalty: float) -> tuple[Values, Values]:
    """Weights, and the residual of each patient when it is left out (by the leverage; Allen's PRESS, 1974)."""
    solve = np.linalg.solve(standard.T @ standard + penalty * np.eye(standard.shape[1]), standard.T)
    weights = solve @ centred
    leverage = np.einsum("ij,ji->i", standard, solve) + 1 / len(centred)
    return weights, (centred - standard @ weights) / (1 - leverage)
