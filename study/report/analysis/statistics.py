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
    """Mean paired difference over patients, its bootstrap interval, and how it stands out from chance."""

    mean: float
    low: float
    high: float
    p_value: float
    """Wilcoxon's two-sided signed-rank test."""
    rank_biserial: float
    """Effect size, -1 to 1: share of the rank sum that speaks for ours less the share that speaks for theirs."""
    cohens_dz: float | None
    """Effect size: mean over sample sd of the differences; none where they do not vary."""
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

    Patients who do not differ are left out of the signed ranks (Wilcoxon, 1945); if none differs, p is 1 and the
    effect sizes are 0 (rank-biserial: Kerby, 2014) and none (Cohen's d of paired differences: Cohen, 1988).
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    low, high = bootstrap_interval(differences, settings)
    return Difference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p_value=_signed_rank_p(differences),
        rank_biserial=_rank_biserial(differences),
        cohens_dz=_cohens_dz(differences),
        num=len(differences),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979), in their order: each at least as large as it was, at most 1.

    The smallest of n is taken n times, the next one n - 1 times, and none becomes less than one that was smaller.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, least = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over patients, and its bootstrap interval."""

    value: float
    low: float
    high: float
    num: int


def correlation(first: Sequence[float], second: Sequence[float], settings: Settings) -> Correlation | None:
    """Of two equally long sequences; resamples in which a sequence does not vary count as no correlation.

    None where it is not defined (`rank_correlation`).
    """
    value = rank_correlation(first, second)
    if value is None:
        return None
    pairs, generator = np.array([first, second], dtype=np.float64), np.random.default_rng(settings.seed)
    drawn = generator.integers(0, len(first), size=(settings.resamples, len(first)))
    values = _rank_correlations(pairs[0][drawn], pairs[1][drawn])
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Correlation(value, float(low), float(high), len(first))


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


def _rank_correlations(first: Values, second: Values) -> Values:
    """Row by row of two (n, k) arrays; 0 where a row does not vary."""
    from scipy import stats

    ranks = [stats.rankdata(values, axis=1) for values in (first, second)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
    return np.asarray(np.divide((one * other).sum(axis=1), scale, out=np.zeros(len(one)), where=scale > 0))


def _rank_biserial(differences: Values) -> float:
    from scipy import stats

    differing = differences[differences != 0]
    if not len(differing):
        return 0.0
    ranks = stats.rankdata(np.abs(differing))
    return float((ranks * np.sign(differing)).sum() / ranks.sum())


def _cohens_dz(differences: Values) -> float | None:
    sd = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / sd if sd > 0 else None
