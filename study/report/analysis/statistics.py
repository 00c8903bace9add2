"""Means with bootstrap intervals, paired differences between two methods, and rank correlations over cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_MOST_EXACT = 50
"""Number of cases up to which signed ranks are tested exactly; the sums of more would not fit a float."""


@dataclass(frozen=True)
class Settings:
    """How intervals are computed; the same settings give the same numbers."""

    confidence: float = 0.95
    """Level of the intervals, between 0 and 1."""
    # At 95 %, fifty resamples lie beyond each bound.
    resamples: int = 2000
    """Number of bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class Estimate:
    """A mean over cases and its bootstrap interval."""

    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for a single case."""
    low: float
    high: float
    num: int
    """Number of cases."""


@dataclass(frozen=True)
class Difference:
    """A mean paired difference over cases, its bootstrap interval, and how clearly it differs from 0."""

    mean: float
    low: float
    high: float
    p_value: float
    """Two-sided Wilcoxon signed-rank test."""
    rank_biserial: float
    """Effect size, -1 to 1: share of the rank sum in favor of the first method minus the share in favor of the other.
    """
    cohens_dz: float | None
    """Effect size: mean over sample standard deviation of the differences; None where they do not vary."""
    num: int
    """Number of cases."""


def estimate(values: Sequence[float], settings: Settings) -> Estimate | None:
    """Return mean, sample standard deviation and percentile-bootstrap interval of one value per case.

    Without cases the result is None.
    """
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(array, settings)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Estimate(float(array.mean()), sd, low, high, len(array))


def bootstrap_interval(values: Values, settings: Settings) -> tuple[float, float]:
    """Return the percentile interval of the mean when cases are drawn with replacement (Efron, 1979)."""
    # A generator for each call, so that an interval does not depend on those computed before it.
    generator = np.random.default_rng(settings.seed)
    drawn = generator.integers(0, len(values), size=(settings.resamples, len(values)))
    return _percentile_interval(values[drawn].mean(axis=1), settings)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], settings: Settings) -> Difference:
    """Return the mean of ours minus theirs over the same cases.

    The signed ranks leave out cases without a difference (Wilcoxon, 1945). If no case differs, p is 1, the
    rank-biserial correlation (Kerby, 2014) is 0, and Cohen's d of paired differences (Cohen, 1988) is None.

    Args:
        ours: one value per case, at least one.
        theirs: values of the same cases in the same order.
        settings: of the interval.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    # Differences are drawn, so that each resample holds the same cases for both methods.
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
    """Return p-values corrected for their number (Holm, 1979), in the same order.

    The smallest of n values is multiplied by n, the next one by n - 1, and so on. The results are at most 1, and
    their order is that of the p-values.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [1.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def least_p(num_cases: int, num_tests: int) -> float:
    """Return the least p-value that signed ranks of `num_cases` differences can have after Holm's correction, 0 to 1.

    Of the 2**n equally likely signs of n differences, two are the most extreme: all for one method, or all against it.
    """
    return min(1.0, num_tests * 2.0 ** (1 - num_cases))


def cases_for(p_value: float, num_tests: int) -> int:
    """Return the least number of cases with which a p-value below `p_value` is possible after Holm's correction."""
    num_cases = 1
    while least_p(num_cases, num_tests) >= p_value:
        num_cases += 1
    return num_cases


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over cases, and its bootstrap interval."""

    value: float
    low: float
    high: float
    num: int
    """Number of cases."""


def correlation(first: Sequence[float], second: Sequence[float], settings: Settings) -> Correlation | None:
    """Return the rank correlation of two sequences of the same length, with its bootstrap interval.

    A resample in which one sequence does not vary counts as correlation 0. The result is None where the correlation
    is not defined (`rank_correlation`).
    """
    value = rank_correlation(first, second)
    if value is None:
        return None
    pairs = np.array([first, second], dtype=np.float64)
    generator = np.random.default_rng(settings.seed)
    drawn = generator.integers(0, len(first), size=(settings.resamples, len(first)))
    # The same draws for both, so that pairs stay together.
    low, high = _percentile_interval(_rank_correlations(pairs[0][drawn], pairs[1][drawn]), settings)
    return Correlation(value, low, high, len(first))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, -1 to 1, of two sequences of the same length.

    Equal values share their mean rank. The result is None for fewer than two values, or where all values of a
    sequence are equal.
    """
    from scipy import stats

    # Where all ranks are equal, SciPy would return NaN and warn.
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.pearsonr(stats.rankdata(first), stats.rankdata(second)).statistic)


def _percentile_interval(resampled: Values, settings: Settings) -> tuple[float, float]:
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _signed_rank_p(differences: Values) -> float:
    from scipy import stats

    differing = differences[differences != 0]
    if not len(differing):
        return 1.0
    if len(differing) > _MOST_EXACT:
        return float(stats.wilcoxon(differing).pvalue)
    # With ties SciPy would take the normal distribution, which gives too small values for few cases.
    ranks = stats.rankdata(np.abs(differing))
    return _exact_p(np.rint(2 * ranks).astype(np.int64), differing > 0)


def _exact_p(doubled_ranks: NDArray[np.int64], is_positive: NDArray[np.bool_]) -> float:
    """Return the two-sided p of signed ranks over all 2**n signs; ranks are doubled, since ties share half ranks."""
    total = int(doubled_ranks.sum())
    # How many choices of signs give each sum of the positive ranks.
    counts = np.zeros(total + 1)
    counts[0] = 1
    for rank in doubled_ranks:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: total + 1 - rank]
        counts = counts + shifted
    positive = int(doubled_ranks[is_positive].sum())
    extreme = counts[: min(positive, total - positive) + 1].sum()
    return min(1.0, 2 * float(extreme) / 2.0 ** len(doubled_ranks))


def _rank_correlations(first: Values, second: Values) -> Values:
    """Return the rank correlation of each pair of rows of two (n, k) arrays; 0 where a row does not vary."""
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
