"""Where successive halving looks at trials, and what ending one early saves. Plain numbers: the report uses it too.

A trial's age is the number of epochs since its own first learning-rate step: validation Dice jumps up where the rate
falls, so that trials can be compared at equal distance from that step, and not before it.
"""

from collections.abc import Sequence


def age_of(epoch: int, milestones: Sequence[int]) -> int:
    """Epochs since the first learning-rate step; 0 and below before the rate has fallen."""
    return epoch - milestones[0]


def rung_ages(grace_epochs: int, reduction_factor: int, num_epochs: int, first_step: int) -> list[int]:
    """Ages at which trials are compared: grace·r^k, before the last epoch of a trial with this first step."""
    rungs, rung = [], grace_epochs
    while rung + first_step < num_epochs:
        rungs.append(rung)
        rung *= reduction_factor
    return rungs


def saved_by_pruning(cost: float, num_epochs: int, planned_epochs: int) -> float:
    """What the epochs that a pruned trial did not train would have cost, at its own mean cost an epoch."""
    return cost / num_epochs * (planned_epochs - num_epochs) if num_epochs else 0.0
