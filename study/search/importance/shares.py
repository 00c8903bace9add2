"""How much of the objective a parameter explains, and whether chance explains as much.

The share of a parameter is epsilon squared of ranks (Kelley, 1935): the part of the variation of the objectives' ranks
that lies between the parameter's groups, less what chance puts there. Ranks, because a few trials that failed to learn
would decide the variation of the objectives themselves.

A parameter is called important by a permutation test: objectives are shuffled over the trials. The least p-value of all
parameters is compared with the least one of each shuffle (Westfall and Young, 1993), which holds the chance to name any
parameter, however many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from study.records.tables import IMPORTANCE_CONFIDENCE
from study.search.importance.factors import MIN_GROUP, Factor

Values = NDArray[np.float64]

_SHUFFLES: Final = 1999
"""Shuffles of the test: enough for p-values below the level also after the correction for parameters and networks."""
_RESAMPLES: Final = 1000
_CELLS: Final = 2_000_000
"""Most numbers of a block of shuffles or resamples: 16 MB, however many trials there are."""


@dataclass(frozen=True)
class Share:
    """How much of the objective a parameter explains, by itself."""

    value: float
    """Share of the variation of the ranks, 0 to 1."""
    low: float
    """Percentile interval when trials are drawn with replacement (Efron, 1979)."""
    high: float
    p_value: float
    """Chance of as high a share of any parameter if the objective depended on none."""


def shares_of(factors: Sequence[Factor], objectives: Sequence[float], seed: int = 0) -> list[Share]:
    """Return the share of each parameter.

    Groups with fewer than `MIN_GROUP` trials are left out.

    Args:
        factors: parameters with at least two groups of `MIN_GROUP` trials each; one or more.
        objectives: objective of each trial; not all equal.
        seed: of shuffles and resamples, so that the same trials give the same numbers.
    """
    ranks = stats.rankdata(objectives)
    tables = [_Table.of(factor) for factor in factors]
    observed = _explained(tables, np.ones((1, len(ranks))), ranks[None])[0]
    drawn = np.concatenate([_explained(tables, *block) for block in _resampled(ranks, seed)])
    tail = (1 - IMPORTANCE_CONFIDENCE) / 2
    lows, highs = np.clip(np.quantile(drawn, [tail, 1 - tail], axis=0), 0.0, 1.0)
    p_values = _p_values(tables, observed, ranks, seed)
    columns = zip(np.clip(observed, 0.0, 1.0), lows, highs, p_values, strict=True)
    return [Share(*map(float, column)) for column in columns]


@dataclass(frozen=True, eq=False)
class _Table:
    """Which trials belong to which group, without groups of few trials."""

    members: Values
    """1 where a trial belongs to a group, else 0, shape (n, groups)."""

    @classmethod
    def of(cls, factor: Factor) -> "_Table":
        kept = np.flatnonzero(factor.sizes >= MIN_GROUP)
        return cls((factor.codes[:, None] == kept).astype(np.float64))

    def explained(self, weights: Values, ranks: Values) -> Values:
        """Return epsilon squared, shape (m,), of m samples.

        Args:
            weights: how often each trial counts, shape (m, n).
            ranks: its rank, shape (m, n) or (1, n).
        """
        is_in = self.members.any(axis=1)
        counts = weights @ self.members
        sums = (weights * ranks) @ self.members
        total = counts.sum(axis=1)
        of_mean = np.square(sums.sum(axis=1)) / np.maximum(total, 1)
        between = (np.square(sums) / np.maximum(counts, 1)).sum(axis=1) - of_mean
        variation = ((weights * np.square(ranks))[:, is_in]).sum(axis=1) - of_mean
        spare = total - (counts > 0).sum(axis=1)
        # A sample in which all trials are alike, or each is a group, shows nothing.
        shows = (variation > 1e-9) & (spare > 0)
        inside = np.divide(variation - between, variation, out=np.ones_like(total), where=shows)
        return np.asarray(1 - inside * np.where(shows, (total - 1) / np.maximum(spare, 1), 1.0))


def _explained(tables: Sequence[_Table], weights: Values, ranks: Values) -> Values:
    """Return epsilon squared of m samples, shape (m, parameters)."""
    return np.stack([table.explained(weights, ranks) for table in tables], axis=1)


def _resampled(ranks: Values, seed: int) -> Iterator[tuple[Values, Values]]:
    """Yield blocks of resamples: how often each trial is drawn, and the ranks."""
    generator = np.random.default_rng(seed)
    num = len(ranks)
    for size in _blocks(_RESAMPLES, num):
        yield generator.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64), ranks[None]


def _p_values(tables: Sequence[_Table], observed: Values, ranks: Values, seed: int) -> Values:
    """Return the p-value of each parameter, corrected for their number."""
    generator = np.random.default_rng(seed)
    blocks = [observed[None]]
    for size in _blocks(_SHUFFLES, len(ranks)):
        shuffled = generator.permuted(np.tile(ranks, (size, 1)), axis=1)
        blocks.append(_explained(tables, np.ones_like(shuffled), shuffled))
    # Rounded, because equal shares of two shuffles may differ in their last digit.
    found = np.round(np.concatenate(blocks), 9)
    # The observed objectives are one of the shuffles, which makes the test exact. Groups differ in number and size, so
    # parameters are compared by their p-values, not by their shares.
    single = stats.rankdata(-found, axis=0, method="max") / len(found)
    least = single.min(axis=1)
    return np.asarray((least[:, None] <= single[0]).mean(axis=0))


def _blocks(number: int, num_trials: int) -> Iterator[int]:
    """Yield sizes of blocks that sum up to `number` and hold at most `_CELLS` numbers of trials."""
    most = max(1, _CELLS // num_trials)
    for first in range(0, number, most):
        yield min(most, number - first)
