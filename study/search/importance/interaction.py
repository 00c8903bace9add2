"""Whether the effect of one parameter depends on another: the part of the objective that no sum of both explains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from study.search.importance.factors import MIN_GROUP, Codes, Factor
from study.search.importance.shares import Values

_SHUFFLES: Final = 999
_PER_CELL: Final = 2
"""Least number of trials per cell on average, with which the variation inside cells can be told."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The trials by the groups of two parameters, without cells of few trials."""

    pairs: list[tuple[int, int]]
    """Group of the first and of the second parameter of each cell."""
    members: NDArray[np.bool_]
    """Whether a trial belongs to a cell, shape (n, cells)."""


@dataclass(frozen=True)
class Interaction:
    """How much of the objective two parameters explain together beyond the sum of their effects."""

    share: float
    """Share of the variation of the ranks, 0 to 1, less what chance puts there."""
    p_value: float
    """Chance of as high a share if the effects of both add up."""


def cells_of(first: Factor, second: Factor) -> Cells:
    """Return the cells with at least `MIN_GROUP` trials."""
    pairs = [(one, other) for one in range(len(first.groups)) for other in range(len(second.groups))]
    members = np.stack([(first.codes == one) & (second.codes == other) for one, other in pairs], axis=1)
    kept = members.sum(axis=0) >= MIN_GROUP
    return Cells([pair for pair, is_kept in zip(pairs, kept, strict=True) if is_kept], members[:, kept])


def interaction_of(first: Factor, second: Factor, objectives: Sequence[float], seed: int = 0) -> Interaction | None:
    """Return the interaction of two parameters; None where the trials are too few or the cells too incomplete.

    The residuals of the sum of both effects are shuffled (Freedman and Lane, 1983), so that these effects stay.

    Args:
        first: one parameter.
        second: the other one.
        objectives: objective of each trial.
        seed: of the shuffles.
    """
    cells = cells_of(first, second)
    is_in = cells.members.any(axis=1)
    if is_in.sum() < max(2, _PER_CELL * len(cells.pairs)):
        return None
    whole = _basis(cells.members[is_in].astype(np.float64))
    added = _basis(np.hstack([_columns(first.codes[is_in]), _columns(second.codes[is_in])]))
    if whole.shape[1] == added.shape[1]:  # no cell is left to differ from the sum
        return None
    ranks = stats.rankdata(np.asarray(objectives)[is_in])
    fitted = added @ (added.T @ ranks)
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(ranks - fitted, (_SHUFFLES, 1)), axis=1)
    found = np.round(_beyond_sum(np.vstack([ranks, fitted + shuffled]), added, whole), 9)
    return Interaction(float(np.clip(found[0], 0.0, 1.0)), float((found >= found[0]).mean()))


def _columns(codes: Codes) -> Values:
    """Return a column per group: 1 where a trial belongs to it."""
    return np.asarray(codes[:, None] == np.unique(codes), dtype=np.float64)


def _basis(columns: Values) -> Values:
    """Return an orthonormal basis of the span of columns."""
    vectors, lengths, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(vectors[:, lengths > 1e-9 * lengths[0]])


def _beyond_sum(ranks: Values, added: Values, whole: Values) -> Values:
    """Return the share that cells explain beyond the sum, less what chance puts there, of m samples (m, n)."""
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    variation = np.square(centred).sum(axis=1)
    by_sum = np.square(centred @ added).sum(axis=1)
    by_cells = np.square(centred @ whole).sum(axis=1)
    inside = (variation - by_cells) / (ranks.shape[1] - whole.shape[1])
    chance = (whole.shape[1] - added.shape[1]) * inside
    return np.asarray((by_cells - by_sum - chance) / np.maximum(variation, 1e-9))
