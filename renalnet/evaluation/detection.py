"""Tumor detection by voxel and by patient, with confidence intervals.

The paper names sensitivity and specificity of detection only in its abstract and does not define them (Yang et al.,
ICPR 2018). Two readings are computed (reconstruction):

- by voxel: rates over the pooled voxels of all patients, with intervals by bootstrap over patients;
- by patient: the share of patients with a tumor whose tumor is found, and the share of patients without one for whom
  no tumor is predicted, with Wilson intervals.

A rate over nothing, such as specificity in a cohort without healthy kidneys, is None with the interval (0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.evaluation.overlap import Confusion, require_same_shape
from renalnet.evaluation.surface import bounding_box
from renalnet.types import MaskArray

MIN_IOU = 0.1
"""Least intersection over union at which a predicted component counts as having found the tumor."""
# 18-connectivity, as in post-processing.
_FACES_AND_EDGES = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0) <= 2


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a rate, within 0 to 1."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""


UNKNOWN = Interval(0.0, 1.0)
"""The interval of a rate over nothing."""


@dataclass(frozen=True)
class Rate:
    """A share of successes."""

    successes: int
    """Number of successes."""
    total: int
    """Number of attempts."""
    interval: Interval
    """Confidence interval of the share."""

    @property
    def value(self) -> float | None:
        """Share of successes, 0 to 1; None where the total is 0."""
        return self.successes / self.total if self.total else None


@dataclass(frozen=True)
class Detection:
    """Sensitivity and specificity of one reading."""

    sensitivity: Rate
    """Share of tumor that is found."""
    specificity: Rate
    """Share of healthy tissue, or of healthy patients, without a false alarm."""


def tumor_found(truth: MaskArray, pred: MaskArray, min_iou: float = MIN_IOU) -> bool | None:
    """Return whether a predicted component has found the tumor; None where the truth is empty.

    The intersection over union is that of one 18-connected component of `pred` and the whole truth, which may be one
    tumor or several. An empty prediction gives False.

    Args:
        truth: boolean tumor mask (z, y, x).
        pred: boolean tumor mask of the same shape.
        min_iou: least intersection over union of a component that finds the tumor.

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    if not truth.any():
        return None
    if not pred.any():
        return False
    from scipy import ndimage

    region = bounding_box(pred)
    # Components lie inside the box of the prediction, which is much smaller than the volume.
    components, num_components = ndimage.label(pred[region], structure=_FACES_AND_EDGES)
    sizes = np.bincount(components.ravel(), minlength=num_components + 1)[1:]
    # Without `minlength` the last components would be missing where they do not touch the truth.
    shared = np.bincount(components[truth[region]], minlength=num_components + 1)[1:]
    union = sizes + np.count_nonzero(truth) - shared
    return bool((shared / union >= min_iou).any())


def wilson(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share (Wilson, 1927); (0, 1) for a total of 0.

    Raises:
        InputError: not 0 ≤ successes ≤ total, or not 0 < confidence < 1.
    """
    if not 0 <= successes <= total:
        raise InputError(
            f"{successes} successes of {total}: not a share; the successes must be between 0 and the total"
        )
    # Before the return for a total of 0, so that a wrong confidence is always refused.
    normal = _normal_quantile(confidence)
    if not total:
        return UNKNOWN
    share = successes / total
    spread = normal**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = normal / (1 + spread) * float(np.sqrt(share * (1 - share) / total + spread / (4 * total)))
    # At the ends the formula gives 0 and 1 only up to rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == total else centre + half
    return Interval(low, high)


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: must be between 0 and 1, both excluded; 0.95 is usual")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def by_voxel(
    patients: Sequence[Confusion], *, seed: int, num_resamples: int = 2000, confidence: float = 0.95
) -> Detection:
    """Return sensitivity and specificity of the tumor over the pooled voxels of all patients.

    Intervals are percentiles over draws of patients with replacement; the same seed gives the same draws. A draw
    without voxels that a rate counts is left out of that rate's interval.

    Args:
        patients: voxel counts of tumor against the rest, one entry per patient. Patients without a tumor count for
            specificity only.
        seed: seed of the draws.
        num_resamples: number of draws, 1 or more.
        confidence: confidence of the intervals.
    """
    # Reshaped, because an array of no patients has one axis only.
    counts = np.array(
        [[p.true_positive, p.num_truth, p.true_negative, p.true_negative + p.false_positive] for p in patients],
        dtype=np.int64,
    ).reshape(-1, 4)
    pooled = counts.sum(axis=0)
    drawn = _draws(counts, num_resamples, np.random.default_rng(seed))
    return Detection(
        _bootstrapped(pooled[:2], drawn[:, :2], confidence),
        _bootstrapped(pooled[2:], drawn[:, 2:], confidence),
    )


def _draws(counts: NDArray[np.int64], num_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return sums (num_resamples, 4) of len(counts) rows drawn with replacement; an empty array for no rows."""
    if not len(counts):
        return counts
    # How often each patient is drawn has a multinomial distribution, so no indices have to be drawn and summed.
    picked = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=num_resamples)
    return picked @ counts


def _bootstrapped(pooled: NDArray[np.int64], drawn: NDArray[np.int64], confidence: float) -> Rate:
    """Return the rate of (successes, total) with its interval from draws (n, 2) of the same pair."""
    usable = drawn[drawn[:, 1] > 0]
    if not len(usable):
        return Rate(int(pooled[0]), int(pooled[1]), UNKNOWN)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(usable[:, 0] / usable[:, 1], [tail, 100 - tail])
    return Rate(int(pooled[0]), int(pooled[1]), Interval(float(low), float(high)))


def by_patient(found: Sequence[bool], false_alarms: Sequence[bool], *, confidence: float = 0.95) -> Detection:
    """Return sensitivity over patients with a tumor and specificity over patients without one.

    Args:
        found: whether the tumor was found (`tumor_found`), for each patient with a tumor.
        false_alarms: whether a tumor was predicted, for each patient without one.
        confidence: confidence of the Wilson intervals.
    """
    return Detection(
        _wilson_rate(sum(found), len(found), confidence),
        _wilson_rate(len(false_alarms) - sum(false_alarms), len(false_alarms), confidence),
    )


def _wilson_rate(successes: int, total: int, confidence: float) -> Rate:
    return Rate(successes, total, wilson(successes, total, confidence))
