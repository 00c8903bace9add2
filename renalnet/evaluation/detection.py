"""Tumor detection, by voxel and by patient, with intervals.

The paper names sensitivity and specificity of detection in its abstract only and does not define them (Yang
et al., ICPR 2018), so both readings are given (reconstruction):

- by voxel: the voxels of all patients pooled, intervals by bootstrap over patients;
- by patient: of the patients with a tumor, how many have it found; of those without, how many get none
  predicted; Wilson intervals.

A rate over nothing (no tumor, or no healthy kidney in the cohort) is None with the interval (0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.errors import InputError
from renalnet.evaluation.overlap import Confusion, require_same_shape
from renalnet.evaluation.surface import bounding_box
from renalnet.types import MaskArray

MIN_IOU = 0.1
"""Intersection over union from which a predicted component counts as having found the tumor."""
_FACES_AND_EDGES = ndimage.generate_binary_structure(3, 2)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a rate, within 0 to 1."""

    low: float
    high: float


UNKNOWN = Interval(0.0, 1.0)
"""The interval of a rate over nothing."""


@dataclass(frozen=True)
class Rate:
    """A share of successes."""

    successes: int
    total: int
    interval: Interval

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None where the total is 0."""
        return self.successes / self.total if self.total else None


@dataclass(frozen=True)
class Detection:
    """Sensitivity and specificity of one reading."""

    sensitivity: Rate
    specificity: Rate


def tumor_found(truth: MaskArray, pred: MaskArray, min_iou: float = MIN_IOU) -> bool | None:
    """Whether an 18-connected component of `pred` has an intersection over union ≥ `min_iou` with `truth`.

    Both are boolean tumor masks (z, y, x). The union is that of one predicted component and the whole
    truth, be it one tumor or several. An empty truth gives None, since there is nothing to find; an empty
    prediction gives False.

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    if not truth.any():
        return None
    if not pred.any():
        return False
    region = bounding_box(pred)
    components, num_components = ndimage.label(pred[region], structure=_FACES_AND_EDGES)
    sizes = np.bincount(components.ravel(), minlength=num_components + 1)[1:]
    shared = np.bincount(components[truth[region]], minlength=num_components + 1)[1:]
    union = sizes + np.count_nonzero(truth) - shared
    return bool((shared / union >= min_iou).any())


def wilson(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927). A total of 0 gives (0, 1).

    Raises:
        InputError: not 0 ≤ successes ≤ total, or not 0 < confidence < 1.
    """
    if not 0 <= successes <= total:
        raise InputError(f"{successes} successes of {total} is not a share; successes must lie between 0 and the total")
    normal = _normal_quantile(confidence)
    if not total:
        return UNKNOWN
    share, spread = successes / total, normal**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = normal / (1 + spread) * float(np.sqrt(share * (1 - share) / total + spread / (4 * total)))
    # At the ends the formula gives 0 and 1 only up to rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == total else centre + half
    return Interval(low, high)


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence} must lie between 0 and 1, both excluded; 0.95 is usual")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def by_voxel(
    patients: Sequence[Confusion], *, seed: int, num_resamples: int = 2000, confidence: float = 0.95
) -> Detection:
    """Sensitivity and specificity of the tumor class over the pooled voxels of all patients.

    Intervals are percentiles of `num_resamples` draws of patients with replacement, the same for the same
    seed. A draw that holds no voxel of the kind asked about is left out of that rate's interval.

    Args:
        patients: tumor against the rest, a patient each; healthy ones count towards specificity only.
        seed: of the draws.
        num_resamples: number of draws, 1 or more.
        confidence: of the intervals.
    """
    counts = np.array(
        [[p.true_positive, p.num_truth, p.true_negative, p.true_negative + p.false_positive] for p in patients],
        dtype=np.int64,
    ).reshape(-1, 4)
    pooled, drawn = counts.sum(axis=0), _draws(counts, num_resamples, np.random.default_rng(seed))
    return Detection(
        _bootstrapped(pooled[:2], drawn[:, :2], confidence),
        _bootstrapped(pooled[2:], drawn[:, 2:], confidence),
    )


def _draws(counts: NDArray[np.int64], num_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sums (num_resamples, 4) of as many rows of `counts` as it has, drawn with replacement; none of none."""
    if not len(counts):
        return counts
    picked = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=num_resamples)
    return picked @ counts


def _bootstrapped(pooled: NDArray[np.int64], drawn: NDArray[np.int64], confidence: float) -> Rate:
    """The rate of (successes, total) and its interval from draws (n, 2) of the same."""
    usable = drawn[drawn[:, 1] > 0]
    if not len(usable):
        return Rate(int(pooled[0]), int(pooled[1]), UNKNOWN)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(usable[:, 0] / usable[:, 1], [tail, 100 - tail])
    return Rate(int(pooled[0]), int(pooled[1]), Interval(float(low), float(high)))


def by_patient(found: Sequence[bool], false_alarms: Sequence[bool], *, confidence: float = 0.95) -> Detection:
    """Sensitivity over patients with a tumor, specificity over those without.

    Args:
        found: for each patient with a tumor, whether it was found (`tumor_found`).
        false_alarms: for each patient without, whether a tumor was predicted nevertheless.
        confidence: of the Wilson intervals.
    """
    return Detection(
        _wilson_rate(sum(found), len(found), confidence),
        _wilson_rate(len(false_alarms) - sum(false_alarms), len(false_alarms), confidence),
    )


def _wilson_rate(successes: int, total: int, confidence: float) -> Rate:
    return Rate(successes, total, wilson(successes, total, confidence))
