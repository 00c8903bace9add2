"""Writes the importances, marginal effects and interactions of a study's searched parameters, from its journal.

Only trials that trained all their epochs count. A pruned trial was judged at another epoch, so that its objective is
not comparable. Pruning leaves the better trials of each value: it makes effects smaller, and never makes one up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from study.records.parquet import write_rows
from study.records.results import Results
from study.records.tables import (
    IMPORTANCE_CONFIDENCE,
    IMPORTANCE_LEVEL,
    IMPORTANT,
    NOT_IMPORTANT,
    Effect,
    Importance,
    InteractionCell,
)
from study.search.extension import EPOCHS, network_of
from study.search.importance.factors import MIN_GROUP, Factor, choice_factor, number_factor
from study.search.importance.interaction import cells_of, interaction_of
from study.search.importance.shares import Share, shares_of
from study.search.journal import read_journal

EVALUATOR: Final = "epsilon squared of ranks"
NEEDED_TRIALS: Final = 20
"""Trials of a network from which on importances are computed."""


def write_importances(results: Results, epochs: int) -> None:
    """Write `importances.parquet`, `effects.parquet` and `interactions.parquet` from the journal of a results folder.

    Args:
        results: the results folder.
        epochs: length of the trials. A study that was extended also has shorter trials, which are not comparable.
    """
    journal = read_journal(results)
    studies = [optuna.load_study(study_name=name, storage=journal) for name in optuna.get_all_study_names(journal)]
    learned = learned_from([study for study in studies if study.user_attrs.get(EPOCHS) == epochs])
    write_rows(results.importances_path, learned.importances)
    write_rows(results.effects_path, learned.effects)
    write_rows(results.interactions_path, learned.interactions)


@dataclass(frozen=True)
class Learned:
    """The rows of the three tables."""

    importances: list[Importance]
    effects: list[Effect]
    interactions: list[InteractionCell]


def learned_from(studies: Sequence[optuna.Study]) -> Learned:
    """Return what the trials of all networks of a study say about its searched parameters.

    Each network that has enough trials is tested at its part of the level, so that the chance to call any parameter of
    the study important by mistake does not grow with the number of networks.
    """
    networks = [_Network.of(study) for study in studies]
    num_tested = sum(bool(network.compared) for network in networks)
    tested = [_Tested.of(network, num_tested) for network in networks]
    return Learned(
        [row for one in tested for row in one.importances()],
        [row for network in networks for row in network.effects()],
        [row for one in tested for row in one.interactions()],
    )


@dataclass(frozen=True)
class _Network:
    """The whole trials of a network, and the groups of each parameter."""

    name: str
    searched: list[str]
    objectives: list[float]
    factors: list[Factor]
    """Parameters whose values differ; none without enough trials."""
    pruned: list[dict[str, Any]]
    """Points of the pruned trials."""

    @classmethod
    def of(cls, study: optuna.Study) -> "_Network":
        whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        searched = sorted({name for trial in (*whole, *pruned) for name in trial.params})
        varying = _varying(whole) if len(whole) >= NEEDED_TRIALS else []
        factors = [_factor(name, whole) for name in varying]
        points = [trial.params for trial in pruned]
        return cls(network_of(study), searched, [fmean(trial.values) for trial in whole], factors, points)

    @property
    def compared(self) -> list[Factor]:
        """The parameters that are tested."""
        return [factor for factor in self.factors if factor.is_comparable]

    def effects(self) -> list[Effect]:
        return [row for factor in self.factors for row in self._effects_of(factor)]

    def _effects_of(self, factor: Factor) -> list[Effect]:
        points = [point[factor.parameter] for point in self.pruned if factor.parameter in point]
        pruned = [factor.group_of(value) for value in points]
        return [
            Effect(
                network=self.name,
                parameter=factor.parameter,
                group=group.title,
                group_low=group.low,
                group_high=group.high,
                num_pruned=pruned.count(index),
                **_mean(np.asarray(self.objectives)[factor.codes == index]),
            )
            for index, group in enumerate(factor.groups)
        ]


@dataclass(frozen=True)
class _Tested:
    """A network and the share of each parameter that was compared."""

    network: _Network
    shares: dict[str, Share]
    num_tested: int

    @classmethod
    def of(cls, network: _Network, num_tested: int) -> "_Tested":
        factors = network.compared
        found = shares_of(factors, network.objectives) if factors else []
        names = [factor.parameter for factor in factors]
        return cls(network, dict(zip(names, found, strict=True)), num_tested)

    def importances(self) -> list[Importance]:
        rows = [self._importance(name) for name in self.network.searched]
        return sorted(rows, key=lambda row: -(row.importance or 0.0))

    def _importance(self, name: str) -> Importance:
        num = len(self.network.objectives)
        about = Importance(self.network.name, EVALUATOR, num, name, needed_trials=NEEDED_TRIALS)
        share = self.shares.get(name)
        if share is None:
            return replace(about, verdict=self._why_not(name))
        p_value = min(1.0, share.p_value * self.num_tested)
        verdict = IMPORTANT if p_value <= IMPORTANCE_LEVEL else NOT_IMPORTANT
        about = replace(about, importance=share.value, low=share.low, high=share.high)
        return replace(about, p_value=p_value, verdict=verdict)

    def _why_not(self, name: str) -> str:
        num = len(self.network.objectives)
        if num < NEEDED_TRIALS:
            return f"not enough trials: {num} of {NEEDED_TRIALS}"
        if any(factor.parameter == name for factor in self.network.factors):
            return f"not compared: fewer than {MIN_GROUP} trials have another value"
        return "not compared: all trials have one value, or some have none"

    def interactions(self) -> list[InteractionCell]:
        important = [row.parameter for row in self.importances() if row.verdict == IMPORTANT]
        factors = {factor.parameter: factor for factor in self.network.compared}
        return self._cells(*(factors[name] for name in important[:2])) if len(important) > 1 else []

    def _cells(self, first: Factor, second: Factor) -> list[InteractionCell]:
        cells = cells_of(first, second)
        found = interaction_of(first, second, self.network.objectives)
        objectives = np.asarray(self.network.objectives)
        return [
            InteractionCell(
                network=self.network.name,
                first=first.parameter,
                second=second.parameter,
                first_group=first.groups[one].title,
                second_group=second.groups[other].title,
                share=found.share if found else None,
                p_value=found.p_value if found else None,
                **_mean(objectives[cells.members[:, index]]),
            )
            for index, (one, other) in enumerate(cells.pairs)
        ]


def _varying(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that all trials have and whose values differ."""
    names = set.intersection(*(set(trial.params) for trial in trials)) if trials else set[str]()
    return sorted(name for name in names if len({trial.params[name] for trial in trials}) > 1)


def _factor(name: str, trials: Sequence[FrozenTrial]) -> Factor:
    values = [trial.params[name] for trial in trials]
    options = _options(trials[0].distributions[name])
    return choice_factor(name, values, options) if options else number_factor(name, values)


def _options(distribution: BaseDistribution) -> list[Any]:
    """Return the options of a choice; empty for a number."""
    return list(distribution.choices) if isinstance(distribution, CategoricalDistribution) else []


def _mean(objectives: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, Any]:
    """Return number, mean and interval of the objectives of some trials, as columns."""
    num = len(objectives)
    mean = float(objectives.mean()) if num else None
    found: dict[str, Any] = {"mean_objective": mean, "num_trials": num}
    if num < MIN_GROUP:
        return found
    # A bootstrap of so few trials would be too narrow.
    reach = float(stats.t.ppf((1 + IMPORTANCE_CONFIDENCE) / 2, num - 1) * objectives.std(ddof=1) / np.sqrt(num))
    return {**found, "low": float(objectives.mean()) - reach, "high": float(objectives.mean()) + reach}
