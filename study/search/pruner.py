"""The interface of the pruners in `study/search/pruners`."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pkgutil import resolve_name
from typing import Any, Final

from ray.tune.schedulers import TrialScheduler

from study.config.catalogue import PRUNERS
from study.config.sections import StudyConfig
from study.search import ray_private

AGE: Final = "age"
"""Key of a result: the age of the trial, which Ray's rules take as their time."""
OBJECTIVE: Final = "objective"
"""Key of a result: the objective after the last epoch."""
BEST: Final = "best_objective"
"""Key of a result: the highest objective after any epoch so far."""
FAILURE: Final = "failure"
"""Key of a result: why the epoch failed; empty if it did not."""
FAULT: Final = "fault"
"""Key of a result: what is wrong with the disk to which a trial writes. Only results without an epoch have it."""
HEARD: Final = "heard"
"""Key of a trial's configuration: the number of its epochs that were reported before its driver was lost."""


class Pruner(ABC):
    """A way to prune trials: a rule of Ray Tune for each network, and what the rule does in words.

    Rules compare results by `OBJECTIVE` or `BEST` at the same `AGE` (`study.search.rungs`).
    """

    def __init__(self, config: StudyConfig) -> None:
        """Keep the configuration of the whole study."""
        self.config = config

    @abstractmethod
    def new_rule(self) -> TrialScheduler:
        """Return the rule for the trials of one network; it has seen no trial.

        With `PAUSE`, a rule makes a trial leave its slot. The trial goes on when `next_paused` names it.
        """

    @abstractmethod
    def reason(self, epoch: int) -> str:
        """Return why a trial was pruned after an epoch, as its record states it."""

    @abstractmethod
    def describe(self) -> str:
        """Return when trials are pruned, as the forecast states it."""

    def remember(self, rule: TrialScheduler, name: str, result: Mapping[str, Any]) -> None:
        """Give a rule a result that an earlier driver has judged; the default judges it again."""
        ray_private.judge(rule, name, result)

    def rungs(self, rule: TrialScheduler) -> dict[int, dict[str, float]]:
        """Return, for each rung's age, the value with which each trial reached it; empty without rungs."""
        return ray_private.rungs_of(rule)

    def next_paused(self, rule: TrialScheduler, paused: Collection[str], *, has_quota: bool = True) -> str | None:  # noqa: ARG002
        """Return the paused trial that goes on next; None where a new trial comes first.

        Args:
            rule: rule of the network.
            paused: names of the network's paused trials.
            has_quota: whether a trial must be among the best at its rung.
        """
        return None

    def hopeless(self, rule: TrialScheduler, paused: Collection[str], num_trials: int) -> list[str]:  # noqa: ARG002
        """Return the paused trials that cannot go on any more, however the other trials end.

        Args:
            rule: rule of the network.
            paused: names of the network's paused trials.
            num_trials: planned trials of the network.
        """
        return []

    def most_paused(self, _: int) -> int:
        """Return the largest number of trials of a network, of a given number, that are paused at the same time."""
        return 0

    def expected_share(self, _: int) -> float | None:
        """Return the fraction of all epochs, 0-1, that a given number of trials of a network are expected to train.

        The default is None: the fraction cannot be predicted.
        """
        return None


def make_pruner(config: StudyConfig) -> Pruner:
    """Return the pruner that a study names."""
    pruner: Pruner = resolve_name(PRUNERS[config.search.pruner])(config)
    return pruner
