"""No pruning."""

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.search.pruner import Pruner


class NoPruner(Pruner):
    """Every trial trains all its epochs."""

    def new_rule(self) -> TrialScheduler:
        """Return the rule that lets every trial go on."""
        return FIFOScheduler()

    def reason(self, epoch: int) -> str:
        """Return why a trial has fewer epochs than planned."""
        return f"ended at epoch {epoch}, although nothing is pruned"

    def describe(self) -> str:
        """Return that no trial is pruned."""
        return "nothing is pruned"

    def expected_share(self, _: int) -> float:
        """Return 1."""
        return 1.0
