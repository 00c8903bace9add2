"""What the search cost, what pruning saved, how far its rungs could be trusted, and which trials failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.pruning import rung_epochs, saved_by_pruning
from study.report.rows import Epoch, Manifest, Results, Trial
from study.report.statistics import rank_correlation


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
    epoch: int
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
    curves: dict[str, list[list[float]]] = {}
    for trial in trials:
        if trial.state == "complete":
            curves.setdefault(trial.network, []).append(_objectives(trial, epochs))
    return [
        _rung(network, epoch, own)
        for network, own in curves.items()
        if len(own) > 1
        for epoch in rung_epochs(search["grace_epochs"], search["reduction_factor"], min(map(len, own)))
    ]


def _rung(network: str, epoch: int, curves: Sequence[Sequence[float]]) -> Rung:
    correlation = rank_correlation([max(curve[:epoch]) for curve in curves], [max(curve) for curve in curves])
    return Rung(network, epoch, correlation, len(curves))


def _objectives(trial: Trial, epochs: Iterable[Epoch]) -> list[float]:
    own = sorted((e for e in epochs if e.name == trial.name), key=lambda e: e.epoch)
    return [e.objective for e in own if e.objective is not None]
