"""The scheduler: who is pruned, network by network.

Asynchronous successive halving (ASHA, Li et al. 2020) by default, or the median rule (Golovin et al. 2017), both as
Ray has them. Their memory does not survive a restored experiment, so it is rebuilt from the epochs that every trial has
on disk: a rung holds the value with which a trial reached it, the median rule what each trial reported, nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from renalnet.config import MAIN_NETWORK, NetName
from study.config.sections import StudyConfig
from study.records.trials import read_curves, read_records
from study.search.rungs import age_of
from study.search.searcher import BEST, OBJECTIVE

AGE: Final = "age"
"""Time, as Ray's rules count it."""


@dataclass(frozen=True)
class _Named:
    """What a rule knows of a trial: an identity that, unlike Ray's own, stays the same when a study is resumed."""

    trial_id: str


class NetworkScheduler(FIFOScheduler):
    """Prune a trial that is worse than the other trials of the same network.

    Trials are compared at the same age, the number of epochs after their own first milestone (`study.search.rungs`).
    ASHA compares the best epoch so far, which decides the value of a trial in the end. The value of a single epoch
    jumps while the learning rate is high. A trial that fails, or trains to its end, is not judged again.
    """

    def __init__(
        self, config: StudyConfig, results: str, heard: Mapping[str, int], on_prune: Callable[[str, int], None]
    ) -> None:
        """Start with what the trials of `results` have reported so far.

        Args:
            config: which rule, and its numbers.
            results: the results folder.
            heard: of trials that have not ended, the epochs that have been judged; later ones will be reported.
            on_prune: told of a trial's name and epoch before Ray is, so that no kill in between can lose it.
        """
        super().__init__()
        networks: list[NetName] = [MAIN_NETWORK, *config.search.baselines]
        self._rules = {network: _RULES[config.search.pruner](config) for network in networks}
        self._on_prune = on_prune
        self._heard: dict[str, int] = {}
        records = read_records(results)
        curves = read_curves(results, records)
        for record in records:
            best, last = 0.0, min(heard.get(record.name, config.train.epochs), config.train.epochs - 1)
            for epoch in curves[record.name]:
                best = max(best, epoch.objective)
                if not epoch.failure and epoch.epoch <= last:
                    seen = {"epoch": epoch.epoch, OBJECTIVE: epoch.objective, BEST: best}
                    self._remember(record.network, record.name, _aged(seen, record.train))

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue, or stop where the network's rule says so."""
        name, network = trial.config["name"], trial.config["network"]
        if result["done"] or result["epoch"] <= self._heard.get(name, 0):  # reported anew by a restarted actor
            return str(TrialScheduler.CONTINUE)
        rule, named = self._joined(network, name, result["epoch"])
        decision = str(rule.on_trial_result(None, named, _aged(result, trial.config["train"])))
        if decision == TrialScheduler.STOP:
            self._on_prune(name, result["epoch"])
        return decision

    def rungs(self) -> dict[str, dict[int, dict[str, float]]]:
        """By network and age of a rung, the value with which each trial reached it; empty where nothing halves."""
        return {
            network: {int(age): dict(values) for age, values in rule._brackets[0]._rungs}
            for network, rule in self._rules.items()
            if isinstance(rule, ASHAScheduler)
        }

    def debug_string(self) -> str:
        """Ray's description of each network's rule."""
        return "\n".join(f"{network}: {rule.debug_string()}" for network, rule in self._rules.items())

    def _remember(self, network: str, name: str, result: dict[str, Any]) -> None:
        rule, named = self._joined(network, name, result["epoch"])
        if isinstance(rule, MedianStoppingRule):
            rule.on_trial_complete(None, named, result)  # keeps a result and decides nothing
        else:
            rule.on_trial_result(None, named, result)

    def _joined(self, network: str, name: str, epoch: int) -> tuple[TrialScheduler, _Named]:
        rule, named = self._rules[network], _Named(name)  # type: ignore[index]
        if name not in self._heard:
            rule.on_trial_add(None, named)
        self._heard[name] = epoch
        return rule, named


def _aged(result: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, AGE: age_of(result["epoch"], train["optim"]["milestones"])}


def _halving(config: StudyConfig) -> TrialScheduler:
    return ASHAScheduler(
        time_attr=AGE,
        metric=BEST,
        mode="max",
        max_t=max(config.train.epochs, config.search.grace_epochs) + 1,  # no trial gets so old: each ends by itself
        grace_period=config.search.grace_epochs,
        reduction_factor=config.search.reduction_factor,
    )


def _median(config: StudyConfig) -> TrialScheduler:
    return MedianStoppingRule(
        time_attr=AGE,
        metric=OBJECTIVE,
        mode="max",
        grace_period=config.search.grace_epochs,
        min_time_slice=math.inf,  # never pauses a trial for others
    )


def _nobody(_: StudyConfig) -> TrialScheduler:
    return FIFOScheduler()


_RULES: dict[str, Callable[[StudyConfig], TrialScheduler]] = {"asha": _halving, "median": _median, "none": _nobody}
