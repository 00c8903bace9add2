"""What the search cost, what pruning saved, how reliable its rungs were, and which trials failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.records.documents import Manifest
from study.records.tables import Epoch, Trial
from study.report.analysis.statistics import rank_correlation
from study.search.rungs import rung_ages, saved_by_pruning


@dataclass(frozen=True)
class Hours:
    """Cost of the study in hours."""

    gpu: float
    cpu: float
    wall: float
    """Sum of the manifest's durations."""
    gpu_saved: float
    """Cost of the epochs that pruned trials did not train, at the mean pace of each trial."""
    cpu_saved: float
    """The same in CPU hours."""


@dataclass(frozen=True)
class Rung:
    """How well the order of a network's trials at a rung agrees with their final order."""

    network: str
    age: int
    """Number of epochs after each trial's own first milestone."""
    correlation: float | None
    """Spearman's rank correlation of the best objective so far and the final one; None where it is not defined."""
    num: int
    """Number of trials: those that trained all their epochs, since pruned ones have no final objective."""


def hours_of(manifest: Manifest, trials: Sequence[Trial]) -> Hours:
    """Return the cost of trials and repeats."""
    pruned = [trial for trial in trials if trial.state == "pruned"]
    return Hours(
        gpu=sum(trial.gpu_hours for trial in trials),
        cpu=sum(trial.cpu_hours for trial in trials),
        wall=sum(value or 0.0 for value in manifest.durations_s.values()) / 3600,
        gpu_saved=sum(saved_by_pruning(t.gpu_hours, t.epochs, t.planned_epochs) for t in pruned),
        cpu_saved=sum(saved_by_pruning(t.cpu_hours, t.epochs, t.planned_epochs) for t in pruned),
    )


def failed_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that ended with an error."""
    return [trial for trial in trials if trial.state == "failed"]


def rungs_of(manifest: Manifest, trials: Sequence[Trial], epochs: Sequence[Epoch]) -> list[Rung]:
    """Return all rungs of every network with at least two complete trials.

    The list is empty where the manifest does not name the rungs.
    """
    search = manifest.config.get("search", {})
    if not {"grace_epochs", "reduction_factor"} <= search.keys():
        return []
    return [
        _rung(network, age, own)
        for network, own in _curves_by_network(trials, epochs).items()
        # A single trial has no rank.
        if len(own) > 1
        for age in _ages(search["grace_epochs"], search["reduction_factor"], own)
    ]


@dataclass(frozen=True)
class _Curve:
    """Objectives of a complete trial, epoch by epoch."""

    first_milestone: int
    objectives: Sequence[float]

    def best_at(self, age: int) -> float:
        # The best epoch so far, as in pruning, because Dice jumps while the learning rate is high.
        return max(self.objectives[: self.first_milestone + age])


def _curves_by_network(trials: Sequence[Trial], epochs: Sequence[Epoch]) -> dict[str, list[_Curve]]:
    by_name: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        by_name.setdefault(epoch.name, []).append(epoch)
    curves: dict[str, list[_Curve]] = {}
    for trial in trials:
        if trial.state == "complete":
            curves.setdefault(trial.network, []).append(_curve(trial, by_name.get(trial.name, [])))
    return curves


def _ages(grace_epochs: int, reduction_factor: int, curves: Sequence[_Curve]) -> list[int]:
    """Return the rungs that all trials have passed."""
    found = [rung_ages(grace_epochs, reduction_factor, len(c.objectives), c.first_milestone) for c in curves]
    # All lists are beginnings of one sequence, so the shortest holds the common ages. It is empty if a trial has no
    # epochs, which keeps `max` in `best_at` from an empty sequence.
    return min(found, key=len)


def _rung(network: str, age: int, curves: Sequence[_Curve]) -> Rung:
    correlation = rank_correlation([c.best_at(age) for c in curves], [max(c.objectives) for c in curves])
    return Rung(network, age, correlation, len(curves))


def _curve(trial: Trial, epochs: Iterable[Epoch]) -> _Curve:
    """Return a trial's curve; unknown milestones count as 0, so that rungs count from the start of the training."""
    first = trial.milestones.partition("-")[0]
    return _Curve(int(first) if first.isdigit() else 0, _objectives(epochs))


def _objectives(epochs: Iterable[Epoch]) -> list[float]:
    return [e.objective for e in sorted(epochs, key=lambda e: e.epoch) if e.objective is not None]
