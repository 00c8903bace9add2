"""Bayesian optimisation with a Gaussian process over the values of trials at their first rung."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from study.config.sections import SearchConfig
from study.config.space import FIRST_STEP, Domain, Point
from study.search.sampler import Sampler, trial_seed
from study.search.samplers.gaussian_process import GaussianProcess
from study.search.samplers.unit_cube import parameter_of, point_at, shares_of, unit
from study.search.samplers.within_space import WithinSpace

_MOST_OBSERVATIONS: Final = 120
"""Trials that the process learns from: half of them the best ones, half the newest. More would make a draw slow."""
_NUM_RANDOM: Final = 400
"""Random candidates of a draw."""
_NUM_NEAR: Final = 20
"""Candidates near each of the best trials."""
_NUM_BEST: Final = 5
"""Number of these trials."""
_STEP: Final = 0.1
"""Standard deviation of the distance of such a candidate, as a share of each range."""
_LEAST_DISTANCE: Final = 0.05
"""Least distance of a draw from every other point, as a share of the ranges: a noisy objective hides smaller ones."""
_REDRAWN: Final = 0.2
"""Probability that one of its parameters is drawn anew instead; only so can a choice change."""


class Gp(Sampler):
    """Points that fill the space evenly at first, then the points of which a Gaussian process expects most.

    The process learns from each trial's value at its first rung, so a trial teaches long before its end, and trials of
    different length are compared fairly. Without rungs, it learns from the values at the end.
    """

    def for_trial(self, seed: int, number: int) -> BaseSampler:
        """Return the sampler of one trial."""
        own_seed = trial_seed(seed, number)
        return WithinSpace(_Draw(self.search, self.searched, seed, number), self.searched, own_seed, is_joint=True)


class _Draw(BaseSampler):
    """The draw of one trial."""

    def __init__(self, search: SearchConfig, searched: Mapping[str, Domain], seed: int, number: int) -> None:
        self._search = search
        self._searched = searched
        self._seed = seed
        self._number = number
        self._rng = np.random.default_rng(trial_seed(seed, number))
        self._independent = RandomSampler(seed=trial_seed(seed, number))

    def infer_relative_search_space(self, _: optuna.Study, __: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: the sampler that wraps this one knows the space."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point with a value for each parameter of `search_space`."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        values = {other.number: self._value(other) for other in others}
        observed = [other for other in others if values[other.number] is not None]
        if self._number < self._search.num_startup_trials or not observed:
            point = self._spread_out()
        else:
            pending = [other for other in others if values[other.number] is None and self._is_pending(other)]
            point = self._best_candidate(*self._chosen(observed, values), [other.params for other in pending])
        return {name: point[name] for name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _value(self, trial: FrozenTrial) -> float | None:
        """Return the best objective up to the first rung; None where the trial has not reached it, or failed."""
        reached = trial.intermediate_values
        is_known = set(self._searched) <= set(trial.params)
        if not reached or not is_known or trial.state == TrialState.FAIL:
            return None
        has_rungs = self._search.pruner != "none"
        rung = trial.params[FIRST_STEP] + self._search.grace_epochs if has_rungs else math.inf
        if max(reached) < rung and not trial.state.is_finished():
            return None
        return float(max(value for epoch, value in reached.items() if epoch <= rung))

    def _is_pending(self, trial: FrozenTrial) -> bool:
        return trial.state == TrialState.RUNNING and set(self._searched) <= set(trial.params)

    def _chosen(
        self, observed: Sequence[FrozenTrial], values: Mapping[int, float | None]
    ) -> tuple[list[Point], NDArray[np.float64]]:
        """Return points and values of the best and the newest trials."""
        half = _MOST_OBSERVATIONS // 2
        by_value = sorted(observed, key=lambda trial: (-(values[trial.number] or 0.0), trial.number))
        newest = sorted(by_value[half:], key=lambda trial: trial.number)[-half:]
        chosen = [*by_value[:half], *newest]
        return [trial.params for trial in chosen], np.array([values[trial.number] for trial in chosen], float)

    def _spread_out(self) -> Point:
        """Return a point of the study's Halton sequence, of which the first points fill the space evenly."""
        sequence = qmc.Halton(len(self._searched), scramble=True, rng=np.random.default_rng(self._seed))
        return point_at(sequence.random(self._number + 1)[-1].tolist(), self._searched)

    def _best_candidate(self, points: Sequence[Point], values: NDArray[np.float64], pending: Sequence[Point]) -> Point:
        """Return the candidate with the highest mean plus `search.exploration` standard deviations.

        A trial that is still on its way to its rung counts as if it reached what is expected of it. Otherwise trials
        that run at the same time would draw nearly the same point.
        """
        at = self._coordinates(points)
        process = GaussianProcess.fit(at, values, parameter_of(self._searched))
        if pending:
            expected = process.predict(self._coordinates(pending))[0]
            at = np.concatenate([at, self._coordinates(pending)])
            process = process.with_observations(at, np.concatenate([values, expected]))
        candidates = self._candidates(points)
        coordinates = self._coordinates(candidates)
        mean, sd = process.predict(coordinates)
        is_new = _distances(coordinates, at) >= _LEAST_DISTANCE
        # All may be known where the space has a few points only.
        score = np.where(is_new | ~is_new.any(), mean + self._search.exploration * sd, -np.inf)
        return candidates[int(np.argmax(score))]

    def _candidates(self, points: Sequence[Point]) -> list[Point]:
        """Return random points, and points near the best trials, which are the first ones of `points`."""
        num_parameters = len(self._searched)
        random = self._rng.random((_NUM_RANDOM, num_parameters))
        best = np.array([shares_of(point, self._searched) for point in points[:_NUM_BEST]])
        near = np.repeat(best, _NUM_NEAR, axis=0)
        near = near + self._rng.normal(0.0, _STEP, near.shape)
        is_redrawn = self._rng.random(near.shape) < _REDRAWN
        near = np.where(is_redrawn, self._rng.random(near.shape), np.clip(near, 0.0, np.nextafter(1.0, 0.0)))
        return [point_at(shares, self._searched) for shares in np.concatenate([random, near]).tolist()]

    def _coordinates(self, points: Sequence[Point]) -> NDArray[np.float64]:
        return np.array([unit(point, self._searched) for point in points])


def _distances(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each of (n, d) points to the nearest of (m, d) others, (n,)."""
    squares = ((points[:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.sqrt(squares.min(axis=1)))
