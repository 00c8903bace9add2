"""The median rule (Golovin et al., 2017)."""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from study.search import ray_private
from study.search.pruner import AGE, OBJECTIVE, Pruner
from study.search.rungs import rung_ages


class Median(Pruner):
    """A trial ends if its best epoch is below the median of the other trials' mean objectives up to its age."""

    def new_rule(self) -> TrialScheduler:
        """Return Ray's median rule."""
        return MedianStoppingRule(
            time_attr=AGE,
            metric=OBJECTIVE,
            mode="max",
            grace_period=self.config.search.grace_epochs,
            min_time_slice=math.inf,  # Ray's default pauses a trial while others wait for a slot
        )

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
