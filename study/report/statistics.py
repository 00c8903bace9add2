"""Means with bootstrap intervals and paired differences between two networks on the same patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How intervals are computed; the same settings give the same numbers."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over patients, its sample sd (None for a single patient) and its bootstrap interval."""

    mean: float
    sd: float | None
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class Difference:
    """Mean paired difference over patients, its bootstrap interval and Wilcoxon's two-sided signed-rank p."""

    mean: float
    low: float
    high: float
    p_value: float
    num: int


def estimate(values: Sequence[float], settings: Settings) -> Estimate | None:
    """Mean, sample sd and percentile-bootstrap interval of one value a patient; None without patients."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(array, settings)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Estimate(float(array.mean()), sd, low, high, len(array))


def bootstrap_interval(values: Values, settings: Settings) -> tuple[float, float]:
    """Percentile interval of the mean when patients are drawn again with replacement (Efron, 1979)."""
    generator = np.random.default_rng(settings.seed)
    drawn = generator.integers(0, len(values), size=(settings.resamples, len(values)))
    means = values[drawn].mean(axis=1)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], settings: Settings) -> Difference:
    """Ours minus theirs, patient by patient, of two equally long sequences of at least one patient each.

    Patients who do not differ are left out of the signed ranks (Wilcoxon, 1945); if none differs, p is 1.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    low, high = bootstrap_interval(differences, settings)
    return Difference(float(differences.mean()), low, high, _signed_rank_p(differences), len(differences))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1, of two equally long sequences, equal values sharing their mean rank.

    None for fewer than two values, or where all of a sequence are equal.
    """
    from scipy import stats

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.pearsonr(stats.rankdata(first), stats.rankdata(second)).statistic)


def _signed_rank_p(differences: Values) -> float:
    from scipy import stats

    differing = differences[differences != 0]
    if not len(differing):
        return 1.0
    return float(stats.wilcoxon(differing).pvalue)
