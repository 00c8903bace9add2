"""What the two kinds of successive halving share: the rungs, and the fraction of trials that pass one."""

from abc import abstractmethod
from collections.abc import Sequence

from study.search.pruner import Pruner
from study.search.rungs import rung_ages


class Halving(Pruner):
    """At each rung, the best 1/`reduction_factor` of a network's trials go on, by their best epoch so far.

    The best epoch decides the value of a trial in the end. The objective of a single epoch varies much while the
    learning rate is high.
    """

    @abstractmethod
    def describe_rungs(self, ages: str, share: str) -> str:
        """Return when trials are compared and which ones go on; `ages` is `1, 4` and `share` is `1/4`, for example."""

    @abstractmethod
    def share_at(self, num_trials: int, rung_epochs: Sequence[int]) -> float:
        """Return the fraction of all epochs that trials with these rungs are expected to train."""

    def reason(self, epoch: int) -> str:
        """Return why a trial was pruned."""
        return f"not among the best 1/{self.config.search.reduction_factor} of its network's trials at epoch {epoch}"

    def describe(self) -> str:
        """Return the ages of the rungs, and the fraction of trials that pass one."""
        # A trial with the earliest first milestone has the most rungs before its end.
        ages = self.ages(self.config.space.first_step[0])
        if not ages:
            return "nothing is pruned"
        return self.describe_rungs(", ".join(map(str, ages)), f"1/{self.config.search.reduction_factor}")

    def expected_share(self, num_trials: int) -> float:
        """Return the mean of `share_at` over the first milestones in the space."""
        first, last = self.config.space.first_step
        shares = [
            self.share_at(num_trials, [milestone + age for age in self.ages(milestone)])
            for milestone in range(first, last + 1)
        ]
        return sum(shares) / len(shares)

    def ages(self, first_milestone: int) -> list[int]:
        """Return the ages of the rungs of a trial with this first milestone."""
        search = self.config.search
        return rung_ages(search.grace_epochs, search.reduction_factor, self.config.train.epochs, first_milestone)
