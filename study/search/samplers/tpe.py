"""Tree-structured Parzen estimator (TPE; Bergstra et al., 2011), multivariate (Falkner et al., 2018)."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from study.config.sections import SearchConfig
from study.config.space import FIRST_STEP
from study.search.optuna_private import with_pruned
from study.search.sampler import Sampler, trial_seed
from study.search.samplers.within_space import WithinSpace


class Tpe(Sampler):
    """Random points at first, then points that are likely among the best trials and unlikely among the others."""

    def for_trial(self, seed: int, number: int) -> BaseSampler:
        """Return Optuna's multivariate TPE."""
        own_seed = trial_seed(seed, number)
        # The other settings are Optuna's: on recorded curves, a share of good trials from 0.1 to 0.35 and 100
        # candidates a draw made no difference beyond the noise (results/LOG.md).
        tpe = TPESampler(
            n_startup_trials=self.search.num_startup_trials,
            multivariate=True,
            constant_liar=True,  # trials run at the same time; without it they would draw nearly the same point
            seed=own_seed,
        )
        return WithinSpace(_SeesPaused(tpe, self.search), self.searched, own_seed, is_joint=True)


class _SeesPaused(BaseSampler):
    """TPE that learns from trials which have reached their first rung, whether they are paused, run or have ended."""

    def __init__(self, tpe: TPESampler, search: SearchConfig) -> None:
        self._tpe = tpe
        self._search = search

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return TPE's own."""
        return dict(self._tpe.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return TPE's joint draw."""
        return dict(self._tpe.sample_relative(self._seen(study), trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return TPE's draw of one parameter."""
        return self._tpe.sample_independent(self._seen(study), trial, param_name, param_distribution)

    def _seen(self, study: optuna.Study) -> optuna.Study:
        # Only with a pruner that pauses does a trial stay at its rung without an end.
        return with_pruned(study, self._has_reached_rung) if self._search.pruner == "pausing" else study

    def _has_reached_rung(self, trial: FrozenTrial) -> bool:
        first = trial.params.get(FIRST_STEP)
        return first is not None and max(trial.intermediate_values, default=0) >= first + self._search.grace_epochs
