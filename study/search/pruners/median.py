"""The median rule (Golovin et al., 2017)."""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from study.search import ray_private
from study.search.pruner import AGE, OBJECTIVE, Pruner
from study.search.rungs import rung_ages


class Median(Pruner):
    """A trial ends if its best epoch is below the median of the other trials' mean objectives up to its age.

    For both, epochs count from the age of `grace_epochs` on.
    """

    def new_rule(self) -> TrialScheduler:
        """Return Ray's median rule, from the age of `grace_epochs` on."""
        return _RuleFromGrace(self.config.search.grace_epochs)

    def reason(self, epoch: int) -> str:
        """Return why a trial was pruned."""
        return f"below the median of its network's trials at epoch {epoch}"

    def describe(self) -> str:
        """Return the age from which trials are pruned."""
        search = self.config.search
        # This rule has no rungs, but its trials can be pruned where a first rung lies before their end.
        first_milestone = self.config.space.first_step[0]
        if not rung_ages(search.grace_epochs, search.reduction_factor, self.config.train.epochs, first_milestone):
            return "nothing is pruned"
        return (
            f"from {search.grace_epochs} epochs after a trial's first milestone on, trials below the median are pruned"
        )

    def remember(self, rule: TrialScheduler, name: str, result: Mapping[str, Any]) -> None:
        """Give the rule a result without a decision, as Ray does at the end of a trial.

        A decision would depend on the order in which results are read, and Ray refuses results of a stopped trial.
        """
        ray_private.complete(rule, name, result)


class _RuleFromGrace(MedianStoppingRule):
    """Ray's median rule, which sees no trial before its grace age.

    Ray counts the mean objectives of other trials from the grace age on, but a trial's own best from its first epoch
    on. One lucky epoch before the first milestone would keep a trial from being pruned for good.
    """

    def __init__(self, grace_epochs: int) -> None:
        """Start without trials; `grace_epochs` is the age from which epochs count."""
        super().__init__(
            time_attr=AGE,
            metric=OBJECTIVE,
            mode="max",
            grace_period=grace_epochs,
            min_time_slice=math.inf,  # Ray's default pauses a trial while others wait for a slot
        )
        self._grace_epochs = grace_epochs

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return `STOP` if the trial is below the median, else `CONTINUE`."""
        if result[AGE] < self._grace_epochs:
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(controller, trial, result))

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Take a result without a decision."""
        if result[AGE] >= self._grace_epochs:
            super().on_trial_complete(controller, trial, result)
