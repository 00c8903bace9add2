"""Voxel counts, Dice and volume of binary masks (z, y, x)."""

from dataclasses import dataclass

import numpy as np

from renalnet.errors import InputError
from renalnet.types import MaskArray, Triple


@dataclass(frozen=True)
class Confusion:
    """Number of voxels by truth and prediction."""

    true_positive: int
    """Voxels of both masks."""
    false_positive: int
    """Voxels of the prediction alone."""
    false_negative: int
    """Voxels of the truth alone."""
    true_negative: int
    """Voxels of neither mask."""

    @property
    def num_truth(self) -> int:
        """Number of voxels of the true mask."""
        return self.true_positive + self.false_negative

    @property
    def num_pred(self) -> int:
        """Number of voxels of the predicted mask."""
        return self.true_positive + self.false_positive

    @property
    def dice(self) -> float:
        """Dice 2·|x ∩ y| / (|x| + |y|), 0 to 1 (Yang et al., ICPR 2018, III.C); both empty: 1, one empty: 0."""
        total = self.num_truth + self.num_pred
        return 2 * self.true_positive / total if total else 1.0


def confusion(truth: MaskArray, pred: MaskArray) -> Confusion:
    """Count the voxels of two boolean masks (z, y, x). Raises InputError where the shapes differ."""
    require_same_shape(truth.shape, pred.shape)
    # Three counts give all four, so the other three masks need not be built.
    both = int(np.count_nonzero(truth & pred))
    num_truth = int(np.count_nonzero(truth))
    num_pred = int(np.count_nonzero(pred))
    return Confusion(both, num_pred - both, num_truth - both, truth.size - num_truth - num_pred + both)


def dice(truth: MaskArray, pred: MaskArray) -> float:
    """Return the Dice of two boolean masks; both empty: 1, one empty: 0. Raises InputError where the shapes differ."""
    return confusion(truth, pred).dice


def volume_ml(num_voxels: int, spacing_mm: Triple) -> float:
    """Return the volume of voxels of spacing (z, y, x), in millilitres (1 ml = 1000 mm³)."""
    return num_voxels * float(np.prod(spacing_mm)) / 1000


def require_same_shape(truth: tuple[int, ...], pred: tuple[int, ...]) -> None:
    """Raise InputError unless both shapes are the same."""
    if truth != pred:
        raise InputError(
            f"truth has shape {truth} and prediction {pred}; both must be on one grid: predict on the grid of the scan "
            "that the truth was drawn on"
        )
