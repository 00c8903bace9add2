"""The points of a grid in random order."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

from renalnet.errors import ConfigError
from study.config.space import Choice, Domain, Real, Whole
from study.search.sampler import Sampler

MOST_POINTS: Final = 20_000
"""Largest number of points in a grid; Optuna lists all of them for each trial."""


class Grid(Sampler):
    """Every combination of `grid_levels` values of each range and all values of each choice, once.

    The points do not depend on earlier trials: they are the same in any order in which trials end.
    """

    # The levels of a narrower range are other values.
    can_be_narrowed = False

    def for_trial(self, seed: int, _: int) -> BaseSampler:
        """Return Optuna's grid sampler."""
        # All trials share the study's seed, because it decides the order in which the grid's points are numbered.
        return _EndlessGrid(grid(self.searched, self.search.grid_levels), seed=seed)

    def num_points(self) -> float:
        """Return the number of points in the grid."""
        return math.prod(len(values) for values in grid(self.searched, self.search.grid_levels).values())


def grid(searched: Mapping[str, Domain], num_levels: int) -> dict[str, list[Any]]:
    """Return the values of each parameter in a grid of `num_levels` values of each range.

    Raises:
        ConfigError: the grid has more than `MOST_POINTS` points.
    """
    levels = {name: _levels(domain, num_levels) for name, domain in searched.items()}
    number = math.prod(map(len, levels.values()))
    if number > MOST_POINTS:
        raise ConfigError(
            f"a grid of {number} points is more than {MOST_POINTS}; lower search.grid_levels, search fewer parameters, "
            "or take another search.sampler"
        )
    return levels


def _levels(domain: Domain, num_levels: int) -> list[Any]:
    match domain:
        case Whole(low, high):
            return list(range(low, high + 1))
        case Choice(options):
            return list(options)
        case Real(low, high, True):
            return _distinct(np.geomspace(low, high, num_levels))
        case Real(low, high):
            return _distinct(np.linspace(low, high, num_levels))


def _distinct(values: NDArray[np.float64]) -> list[float]:
    # A range of one value gives that value at every level.
    return sorted({float(value) for value in values})


class _EndlessGrid(GridSampler):
    """Optuna's grid without the stop after the last point.

    Optuna 5.0 stops the study there by `Study.stop`, which raises RuntimeError outside of `Study.optimize`.
    """

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Do nothing: the search ends after `num_points` trials."""
