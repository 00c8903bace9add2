"""Asynchronous successive halving (ASHA; Li et al., 2020)."""

from collections.abc import Sequence

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from study.search.pruner import AGE, BEST
from study.search.pruners.halving import Halving


class Asha(Halving):
    """Successive halving that ends the trials which do not go on."""

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

    def describe_rungs(self, ages: str, share: str) -> str:
        """Return when trials are compared, and which ones go on."""
        return f"{ages} epochs after a trial's first milestone the best {share} of a network's trials continue"

    def share_at(self, num_trials: int, rung_epochs: Sequence[int]) -> float:
        """Return `halving_share`."""
        search = self.config.search
        return halving_share(num_trials, self.config.train.epochs, rung_epochs, search.reduction_factor)


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
