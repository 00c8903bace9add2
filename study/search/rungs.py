"""Where successive halving compares trials, and what an early end saves. Plain numbers, which the report uses too.

A trial's age is the number of epochs since its own first milestone. The validation Dice rises sharply where the
learning rate drops. Trials are therefore compared at the same distance from that epoch, and not before it.
"""

from collections.abc import Sequence


def age_of(epoch: int, milestones: Sequence[int]) -> int:
    """Return the number of epochs since the first milestone; 0 or less before the learning rate has dropped."""
    return epoch - milestones[0]


def rung_ages(grace_epochs: int, reduction_factor: int, num_epochs: int, first_step: int) -> list[int]:
    """Return the ages at which trials are compared, grace_epochs · reduction_factor^k.

    Args:
        grace_epochs: age of the first rung.
        reduction_factor: ratio of the ages of two successive rungs.
        num_epochs: epochs of a whole trial; the last one is no rung, since the trial ends there anyway.
        first_step: first milestone of the trial.
    """
    rungs = []
    rung = grace_epochs
    while rung + first_step < num_epochs:
        rungs.append(rung)
        rung *= reduction_factor
    return rungs


def saved_by_pruning(cost: float, num_epochs: int, planned_epochs: int) -> float:
    """Return the cost of the epochs that a pruned trial did not train, at its own mean cost per epoch.

    The unit is that of `cost`. The result is 0 for a trial that has finished no epoch.
    """
    return cost / num_epochs * (planned_epochs - num_epochs) if num_epochs else 0.0
