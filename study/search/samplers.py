"""Who draws the points of a search: one small interface over Optuna's samplers.

A sampler here draws one trial. It is seeded by (seed, trial number), so that a study that was interrupted goes on with
the points that the undisturbed one would have drawn from the same history. Random and grid points do not look at how
earlier trials went: they are the same in whatever order trials end.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from renalnet.errors import ConfigError
from study.config.sections import SearchConfig
from study.search.space import Choice, Domain, Point, Real, Whole

REDRAWS: Final = 64
"""Draws of a choice before one that is still allowed is taken uniformly, where the space was narrowed."""
MOST_POINTS: Final = 20_000
"""Of a grid, which Optuna lists as a whole for each trial."""
CHOICES: Final = "choices"
"""Attribute of an Optuna study: the options that each choice had when it began, which Optuna does not let change."""


def make_sampler(search: SearchConfig, searched: Mapping[str, Domain], seed: int, number: int) -> BaseSampler:
    """The sampler of trial `number`.

    Args:
        search: which kind, and its numbers.
        searched: the space as it is now.
        seed: of the study.
        number: of the trial within its network.
    """
    own_seed = (seed * 1_000_003 + number) % 2**32
    if search.sampler == "grid":
        return _Grid(grid(searched, search.grid_levels), seed=seed)  # which decides how all trials number the points
    if search.sampler == "random":
        return _WithinSpace(RandomSampler(seed=own_seed), searched, own_seed, is_joint=False)
    tpe = TPESampler(
        n_startup_trials=search.num_startup_trials,
        multivariate=True,
        constant_liar=True,
        seed=own_seed,
    )
    return _WithinSpace(tpe, searched, own_seed, is_joint=True)


def num_points(search: SearchConfig, searched: Mapping[str, Domain]) -> float:
    """Points that there are to draw: those of the grid, else without end."""
    if search.sampler != "grid":
        return math.inf
    return math.prod(len(values) for values in grid(searched, search.grid_levels).values())


def draw(trial: Trial, searched: Mapping[str, Domain]) -> Point:
    """Ask an Optuna trial for every parameter; what it has already drawn stays."""
    options = trial.study.user_attrs[CHOICES]
    return {name: trial._suggest(name, distribution(domain, options.get(name))) for name, domain in searched.items()}


def distribution(domain: Domain, options: list[Any] | None = None) -> BaseDistribution:
    """Optuna's form of a domain; `options` are those that a choice had when the study began."""
    match domain:
        case Real(low, high, log):
            return FloatDistribution(low, high, log=log)
        case Whole(low, high):
            return IntDistribution(low, high)
        case Choice():
            return CategoricalDistribution(tuple(options or domain.options))


def first_choices(searched: Mapping[str, Domain]) -> dict[str, list[Any]]:
    """What `CHOICES` holds of a space."""
    return {name: list(domain.options) for name, domain in searched.items() if isinstance(domain, Choice)}


def grid(searched: Mapping[str, Domain], num_levels: int) -> dict[str, list[Any]]:
    """The values of each parameter in a grid search. Raises ConfigError where they make too many points."""
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
    return sorted({float(value) for value in values})


class _Grid(GridSampler):
    """Optuna's grid without its stopping the study at the last point, which works inside `optimize` only."""

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Nothing: `num_points` ends the search."""


class _WithinSpace(BaseSampler):
    """A sampler of the space as it is now, jointly in all parameters, also those whose range was narrowed.

    Optuna by itself takes a parameter whose range has changed out of the joint draw, and cannot narrow a choice.
    """

    def __init__(self, inner: BaseSampler, searched: Mapping[str, Domain], seed: int, *, is_joint: bool) -> None:
        self._inner, self._searched, self._is_joint = inner, searched, is_joint
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, _: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter that has more than one value, where the sampler draws jointly."""
        if not self._is_joint:
            return {}
        options = study.user_attrs[CHOICES]
        found = {name: distribution(domain, options.get(name)) for name, domain in sorted(self._searched.items())}
        return {name: own for name, own in found.items() if not own.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A joint draw whose choices are all still allowed."""
        for _ in range(REDRAWS):
            drawn = dict(self._inner.sample_relative(study, trial, search_space))
            if all(value in self._searched[name] for name, value in drawn.items()):
                return drawn
        return {name: self._allowed(name, value) for name, value in drawn.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A draw of one parameter that is still allowed."""
        for _ in range(REDRAWS):
            value = self._inner.sample_independent(study, trial, param_name, param_distribution)
            if value in self._searched[param_name]:
                return value
        return self._allowed(param_name, value)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See Optuna."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """See Optuna."""
        self._inner.after_trial(study, trial, state, values)

    def _allowed(self, name: str, value: Any) -> Any:
        domain = self._searched[name]
        if value in domain or not isinstance(domain, Choice):
            return value
        return domain.options[int(self._rng.integers(len(domain.options)))]
