"""What the search cost, what pruning saved, how far its rungs could be trusted, and which trials failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.records.tables import Epoch, Manifest, Results, Trial
from study.report.analysis.statistics import rank_correlation
from study.search.rungs import rung_ages, saved_by_pruning


@dataclass(frozen=True)
class Hours:
    """Cost of the study; wall hours as the manifest's durations add up."""

    gpu: float
    cpu: float
    wall: float
    gpu_saved: float
    """By pruning: the epochs not trained, at each pruned trial's own pace."""
    cpu_saved: float


@dataclass(frozen=True)
class Rung:
    """Whether the order of a network's trials at a rung is that of their end."""

    network: str
    age: int
    """Epochs since each trial's own first learning-rate step."""
    correlation: float | None
    """Spearman's, between the best objective so far and the final one; none where it is not defined."""
    num: int
    """Trials that trained all their epochs, over which it is taken: those that pruning left."""


def hours_of(results: Results) -> Hours:
    """What all trials and repeats have cost."""
    trials = [*(results.trials or []), *results.repeats]
    pruned = [trial for trial in trials if trial.state == "pruned"]
    return Hours(
        gpu=sum(trial.gpu_hours for trial in trials),
        cpu=sum(trial.cpu_hours for trial in trials),
        wall=sum(value or 0.0 for value in results.manifest.durations_s.values()) / 3600,
        gpu_saved=sum(saved_by_pruning(t.gpu_hours, t.epochs, t.planned_epochs) for t in pruned),
        cpu_saved=sum(saved_by_pruning(t.cpu_hours, t.epochs, t.planned_epochs) for t in pruned),
    )


def failed_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that ended without a result, each with its reason."""
    return [trial for trial in trials if trial.state == "failed"]


def rungs_of(manifest: Manifest, trials: Sequence[Trial], epochs: Sequence[Epoch]) -> list[Rung]:
    """Every rung of every network that has two whole trials or more; none where the manifest names no rungs."""
    search = manifest.config.get("search", {})
    if not {"grace_epochs", "reduction_factor"} <= search.keys():
        return []
    by_name: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        by_name.setdefault(epoch.name, []).append(epoch)
    curves: dict[str, list[_Curve]] = {}
    for trial in trials:
        if trial.state == "complete":
            curves.setdefault(trial.network, []).append(_curve(trial, by_name.get(trial.name, [])))
    return [
        _rung(network, age, own)
        for network, own in curves.items()
        if len(own) > 1
        for age in _ages(search["grace_epochs"], search["reduction_factor"], own)
    ]


@dataclass(frozen=True)
class _Curve:
    first_step: int
    objectives: Sequence[float]

    def best_at(self, age: int) -> float:
        return max(self.objectives[: self.first_step + age])


def _ages(grace_epochs: int, reduction_factor: int, curves: Sequence[_Curve]) -> list[int]:
    """Rungs that every one of the trials has passed."""
    found = [rung_ages(grace_epochs, reduction_factor, len(c.objectives), c.first_step) for c in curves]
    return min(found, key=len)


def _rung(network: str, age: int, curves: Sequence[_Curve]) -> Rung:
    correlation = rank_correlation([c.best_at(age) for c in curves], [max(c.objectives) for c in curves])
    return Rung(network, age, correlation, len(curves))


def _curve(trial: Trial, epochs: Iterable[Epoch]) -> _Curve:
    """A trial's objectives; one whose steps are not known is taken as if its rate fell before the first epoch."""
    first_step = trial.milestones.partition("-")[0]
    return _Curve(int(first_step) if first_step.isdigit() else 0, _objectives(epochs))


def _objectives(epochs: Iterable[Epoch]) -> list[float]:
    return [e.objective for e in sorted(epochs, key=lambda e: e.epoch) if e.objective is not None]
