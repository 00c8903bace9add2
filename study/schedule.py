"""The scheduler: asynchronous successive halving (ASHA, Li et al. 2020), one set of rungs a network.

Ray's own ASHA does the halving. Its rungs do not survive a restored experiment, so they are rebuilt from the epochs
that every trial has on disk: a rung holds the value with which a trial reached it, and nothing else.
"""

from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from renalnet.types import NetName
from study.collect import read_epochs, read_records
from study.config import StudyConfig
from study.search import BEST


@dataclass(frozen=True)
class _Named:
    """What ASHA knows of a trial: an identity that, unlike Ray's own, stays the same when a study is resumed."""

    trial_id: str


class NetworkAsha(FIFOScheduler):
    """Prunes a trial that falls below the best 1/reduction_factor of its own network's trials at a rung.

    Trials are compared by their best epoch so far, which is what a trial is worth in the end; a single epoch's value
    jumps while the learning rate is high.
    """

    def __init__(self, config: StudyConfig, results: str) -> None:
        """Start with the rungs that the trials of `results` have reached so far."""
        super().__init__()
        networks: list[NetName] = ["fcn_ppm", *config.search.baselines]
        self._halvings = {network: _halving(config) for network in networks}
        self._known: set[str] = set()
        for record in read_records(results):
            best = 0.0
            for epoch in read_epochs(results, record.name):
                best = max(best, epoch.objective)
                self._decide(record.network, record.name, {"epoch": epoch.epoch, BEST: best})

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue, or stop where the trial's value is below its rung's cut."""
        return self._decide(trial.config["network"], trial.config["name"], result)

    def rungs(self) -> dict[str, dict[int, dict[str, float]]]:
        """By network and epoch of a rung, the value with which each trial reached it."""
        return {
            network: {int(epoch): dict(values) for epoch, values in halving._brackets[0]._rungs}
            for network, halving in self._halvings.items()
        }

    def debug_string(self) -> str:
        """Ray's description of each network's rungs."""
        return "\n".join(f"{network}: {halving.debug_string()}" for network, halving in self._halvings.items())

    def _decide(self, network: str, name: str, result: dict[str, Any]) -> str:
        halving, trial = self._halvings[network], _Named(name)  # type: ignore[index]
        if name not in self._known:
            self._known.add(name)
            halving.on_trial_add(None, trial)
        return str(halving.on_trial_result(None, trial, result))


def _halving(config: StudyConfig) -> ASHAScheduler:
    return ASHAScheduler(
        time_attr="epoch",
        metric=BEST,
        mode="max",
        max_t=config.train.epochs + 1,  # a trial ends by itself; ASHA must not count its last epoch as a stop
        grace_period=min(config.search.grace_epochs, config.train.epochs),
        reduction_factor=config.search.reduction_factor,
    )
