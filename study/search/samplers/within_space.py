"""An Optuna sampler that is kept within a space which was narrowed after the study began."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from study.config.space import Choice, Domain
from study.search.sampler import CHOICES, distribution

REDRAWS: Final = 64
"""Number of draws before a choice that is no longer allowed is replaced by a uniform draw."""


class WithinSpace(BaseSampler):
    """A sampler of the space as it is now, also for parameters whose range was narrowed.

    Optuna by itself leaves a parameter whose range has changed out of the joint draw, and cannot narrow a choice.
    """

    def __init__(self, inner: BaseSampler, searched: Mapping[str, Domain], seed: int, *, is_joint: bool) -> None:
        """Wrap the sampler of one trial.

        Args:
            inner: sampler that draws the values.
            searched: the domain of each searched parameter, as it is now.
            seed: seed of the uniform draws that replace choices which are no longer allowed.
            is_joint: whether `inner` draws all parameters together.
        """
        self._inner = inner
        self._searched = searched
        self._is_joint = is_joint
        self._not_asked_for = list(searched)
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, _: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every parameter with more than one value if the sampler draws jointly, else none."""
        if not self._is_joint:
            return {}
        options = study.user_attrs[CHOICES]
        found = {name: distribution(domain, options.get(name)) for name, domain in sorted(self._searched.items())}
        # Optuna sets a parameter with a single value without asking the sampler.
        return {name: own for name, own in found.items() if not own.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a joint draw in which all choices are allowed."""
        for _ in range(REDRAWS):
            # The whole point is drawn again, because a new value for one choice alone would ignore the joint draw.
            drawn = dict(self._inner.sample_relative(study, trial, search_space))
            # True for an empty draw, by which TPE leaves its first random trials to `sample_independent`.
            if all(value in self._searched[name] for name, value in drawn.items()):
                return drawn
        return {name: self._allowed(name, value) for name, value in drawn.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return an allowed draw of one parameter.

        A driver may have been lost when it had drawn a part of the point. The parameters that it had drawn are drawn
        again here and ignored, so that the others take the same random numbers as in an undisturbed study.
        """
        while (name := self._not_asked_for.pop(0)) != param_name:
            before = distribution(self._searched[name], study.user_attrs[CHOICES].get(name))
            # Optuna sets a parameter with a single value without asking the sampler.
            if not before.single():
                self._draw(study, trial, name, before)
        return self._draw(study, trial, param_name, param_distribution)

    def _draw(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        for _ in range(REDRAWS):
            value = self._inner.sample_independent(study, trial, param_name, param_distribution)
            if value in self._searched[param_name]:
                return value
        return self._allowed(param_name, value)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the inner sampler that a trial starts."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Tell the inner sampler that a trial has ended."""
        self._inner.after_trial(study, trial, state, values)

    def _allowed(self, name: str, value: Any) -> Any:
        """Return the value, or a uniform draw for a choice that is no longer allowed."""
        domain = self._searched[name]
        # Ranges are drawn from as narrowed; only choices keep the options with which the study began.
        if value in domain or not isinstance(domain, Choice):
            return value
        return domain.options[int(self._rng.integers(len(domain.options)))]
