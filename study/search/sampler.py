"""How points are drawn: the interface of the samplers in `study/search/samplers`, and the space in Optuna's terms."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, ClassVar, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from study.config.catalogue import SAMPLERS
from study.config.sections import SearchConfig
from study.config.space import Choice, Domain, Point, Real, Whole

CHOICES: Final = "choices"
"""Attribute of an Optuna study: the options that each choice had when the study began.

Optuna does not let the options of a choice change within a study.
"""


class Sampler(ABC):
    """A way to draw points: an Optuna sampler for each trial.

    Each trial has its own sampler, seeded by the study's seed and the trial's number. A study that was interrupted
    therefore draws the same points as an undisturbed study with the same history.
    """

    can_be_narrowed: ClassVar[bool] = True
    """Whether a study may go on in a narrower space: the points there are points of the wider space as well."""

    def __init__(self, search: SearchConfig, searched: Mapping[str, Domain]) -> None:
        """Keep the configuration of the search, and the domain of each searched parameter as it is now."""
        self.search = search
        self.searched = searched

    @abstractmethod
    def for_trial(self, seed: int, number: int) -> BaseSampler:
        """Return the Optuna sampler of the trial `number` of a network, for a study's seed."""

    def num_points(self) -> float:
        """Return the number of points that can be drawn; infinite by default."""
        return math.inf


def make_sampler(search: SearchConfig, searched: Mapping[str, Domain], seed: int, number: int) -> BaseSampler:
    """Return the Optuna sampler of a trial.

    Args:
        search: names the sampler, and holds its numbers.
        searched: the domain of each searched parameter, as it is now.
        seed: seed of the study.
        number: number of the trial within its network.
    """
    return _sampler(search, searched).for_trial(seed, number)


def num_points(search: SearchConfig, searched: Mapping[str, Domain]) -> float:
    """Return the number of points that a search can draw; infinite unless the points are listed."""
    return _sampler(search, searched).num_points()


def _sampler(search: SearchConfig, searched: Mapping[str, Domain]) -> Sampler:
    sampler: Sampler = resolve_name(SAMPLERS[search.sampler])(search, searched)
    return sampler


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial's own draws, a 32-bit number."""
    # The prime keeps trials of one study apart from those of a study with a neighboring seed.
    return (seed * 1_000_003 + number) % 2**32


def draw(trial: Trial, searched: Mapping[str, Domain]) -> Point:
    """Draw every parameter of an Optuna trial; a parameter that was drawn before keeps its value."""
    options = trial.study.user_attrs[CHOICES]
    return {name: _suggest(trial, name, domain, options.get(name)) for name, domain in searched.items()}


def _suggest(trial: Trial, name: str, domain: Domain, options: list[Any] | None) -> Any:
    match domain:
        case Real(low, high, log):
            return trial.suggest_float(name, low, high, log=log)
        case Whole(low, high):
            return trial.suggest_int(name, low, high)
        case Choice():
            return trial.suggest_categorical(name, tuple(options or domain.options))


def distribution(domain: Domain, options: list[Any] | None = None) -> BaseDistribution:
    """Return a domain as an Optuna distribution; `options` are those that a choice had when the study began."""
    match domain:
        case Real(low, high, log):
            return FloatDistribution(low, high, log=log)
        case Whole(low, high):
            return IntDistribution(low, high)
        case Choice():
            return CategoricalDistribution(tuple(options or domain.options))


def first_choices(searched: Mapping[str, Domain]) -> dict[str, list[Any]]:
    """Return the value of `CHOICES` for a space."""
    return {name: list(domain.options) for name, domain in searched.items() if isinstance(domain, Choice)}
