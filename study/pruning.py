"""Where successive halving looks at trials, and what ending one early saves. Plain numbers: the report uses it too."""


def rung_epochs(grace_epochs: int, reduction_factor: int, num_epochs: int) -> list[int]:
    """Epochs behind which trials are compared: grace·r^k, before the last one of a whole trial."""
    rungs, rung = [], grace_epochs
    while rung < num_epochs:
        rungs.append(rung)
        rung *= reduction_factor
    return rungs


def saved_by_pruning(cost: float, num_epochs: int, planned_epochs: int) -> float:
    """What the epochs that a pruned trial did not train would have cost, at its own mean cost an epoch."""
    return cost / num_epochs * (planned_epochs - num_epochs) if num_epochs else 0.0
