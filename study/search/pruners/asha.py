"""Asynchronous successive halving (ASHA; Li et al., 2020)."""

from collections.abc import Sequence

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from study.search.pruner import AGE, BEST, Pruner
from study.search.rungs import rung_ages


class Asha(Pruner):
    """At each rung, the best 1/`reduction_factor` of a network's trials go on, by their best epoch so far.

    The best epoch decides the value of a trial in the end. The objective of a single epoch varies much while the
    learning rate is high.
    """

    def new_rule(self) -> TrialScheduler:
        """Return Ray's ASHA with one bracket."""
        search = self.config.search
        return ASHAScheduler(
            time_attr=AGE,
            metric=BEST,
            mode="max",
            # No trial reaches this age: each one ends by itself, and is not to be counted as pruned.
            max_t=max(self.config.train.epochs, search.grace_epochs) + 1,
            grace_period=search.grace_epochs,
            reduction_factor=search.reduction_factor,
        )

    def reason(self, epoch: int) -> str:
        """Return why a trial was pruned."""
        return f"not among the best 1/{self.config.search.reduction_factor} of its network's trials at epoch {epoch}"

    def describe(self) -> str:
        """Return the ages of the rungs, and the fraction of trials that pass one."""
        # A trial with the earliest first milestone has the most rungs before its end.
        ages = self._ages(self.config.space.first_step[0])
        if not ages:
            return "nothing is pruned"
        return (
            f"{', '.join(map(str, ages))} epochs after a trial's first milestone the best "
            f"1/{self.config.search.reduction_factor} of a network's trials continue"
        )

    def expected_share(self, num_trials: int) -> float:
        """Return the mean of `halving_share` over the first milestones in the space."""
        first, last = self.config.space.first_step
        shares = [
            halving_share(
                num_trials,
                self.config.train.epochs,
                [milestone + age for age in self._ages(milestone)],
                self.config.search.reduction_factor,
            )
            for milestone in range(first, last + 1)
        ]
        return sum(shares) / len(shares)

    def _ages(self, first_milestone: int) -> list[int]:
        search = self.config.search
        return rung_ages(search.grace_epochs, search.reduction_factor, self.config.train.epochs, first_milestone)


def halving_share(num_trials: int, num_epochs: int, rung_epochs: Sequence[int], reduction_factor: int) -> float:
    """Return the fraction of all epochs that trials train under ASHA, if they come in no particular order.

    A trial that reaches a rung as its (m+1)th goes on if it is not below the quantile 1 - 1/r of the m values there.
    That quantile is (1 - 1/r)(m - 1) places above the lowest value. The new value falls into each of the m + 1 gaps
    between the values with the same probability. The trial therefore goes on with the probability
    (m - (1 - 1/r)(m - 1)) / (m + 1): 1 for the first trial, 1/2 for the second, 1/r in the long run. The epochs
    between two rungs are trained by the trials that passed the first of them.

    With more than one rung the result is some per cent too low: the trials that passed the first rung late had to be
    better. A search that learns prunes fewer trials as well.

    Args:
        num_trials: trials of the network, 1 or more.
        num_epochs: epochs of a trial that is not pruned.
        rung_epochs: epochs at which trials of one first milestone reach the rungs.
        reduction_factor: r.
    """
    reached = float(num_trials)
    trained = 0.0
    begun = 0
    for rung in rung_epochs:
        trained += reached * (rung - begun)
        reached = _num_passing(reached, reduction_factor)
        begun = rung
    return (trained + reached * (num_epochs - begun)) / (num_trials * num_epochs)


def _num_passing(reached: float, reduction_factor: int) -> float:
    """Return the expected number of trials that pass a rung, of those that reach it; a fraction of a trial counts."""
    quantile = 1 - 1 / reduction_factor
    whole = int(reached)
    probabilities = [1.0] + [(m - quantile * (m - 1)) / (m + 1) for m in range(1, whole + 1)]
    return sum(probabilities[:whole]) + (reached - whole) * probabilities[whole]
