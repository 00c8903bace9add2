"""The scheduler: it asks the pruner's rules, network by network, whether a trial goes on.

The rules are Ray's (`study/search/pruners`). Their memory does not survive a restart of the driver. It is therefore
rebuilt from the epochs that every trial has on disk: it depends on what trials reported, and on nothing else.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from renalnet.config import MAIN_NETWORK
from renalnet.train.epochs import EpochRecord
from study.config.sections import StudyConfig
from study.records.names import trial_name
from study.records.results import Results
from study.records.trials import TrialRecord, is_paper_point, read_curves, read_records
from study.search import ray_private
from study.search.pruner import AGE, BEST, OBJECTIVE, make_pruner
from study.search.rungs import age_of
from study.search.trial_counts import count_trials, num_finalists


class NetworkScheduler(FIFOScheduler):
    """A scheduler that prunes a trial which is worse than the other trials of the same network.

    Trials are compared at the same age, the number of epochs since their own first milestone (`study.search.rungs`).
    A trial that fails, or that has trained its last epoch, is not judged. The trial of 3D_FCN_PPM with the paper's
    values is judged like the others, but goes on in any case.

    With a pruner that pauses, a trial that cannot go on yet ends for Ray Tune, which gives its slot to the next
    suggestion. The searcher suggests it again when `next_paused` names it.
    """

    def __init__(
        self,
        config: StudyConfig,
        results: Results,
        heard: Mapping[str, int],
        on_prune: Callable[[str, int], None],
        on_pause: Callable[[str, int], None],
    ) -> None:
        """Start with what the trials of a results folder have reported so far.

        Args:
            config: the whole study; it names the pruner.
            results: the results folder.
            heard: for each trial that has not ended, the number of epochs that were judged. Later epochs are reported
                again.
            on_prune: called with the name and the epoch of a pruned trial before Ray is told. A driver that is killed
                in between therefore does not lose the decision.
            on_pause: called likewise for a paused trial.
        """
        super().__init__()
        self._config = config
        self._pruner = make_pruner(config)
        self._num_trials: Mapping[str, int] = count_trials(config)
        self._rules = {network: self._pruner.new_rule() for network in (MAIN_NETWORK, *config.search.baselines)}
        self._on_prune = on_prune
        self._on_pause = on_pause
        self._heard: dict[str, int] = {}
        records = read_records(results)
        curves = read_curves(results, records)
        # In the order of numbers, not of time: Ray's ASHA notes the value at a rung whatever it decides, and the median
        # rule is not asked for a decision.
        for record in records:
            # An ended trial is not in `heard`, because all its epochs were judged.
            self._rebuild(record, curves[record.name], heard.get(record.name, config.train.epochs))

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return `CONTINUE`, or `STOP` if the network's rule says so, or pauses the trial."""
        name = trial.config["name"]
        # A restarted actor reports again the epochs since its last checkpoint.
        if result["done"] or result["epoch"] <= self._heard.get(name, 0):
            return str(TrialScheduler.CONTINUE)
        network = trial.config["network"]
        rule = self._rule_of(network, name, result["epoch"])
        decision = ray_private.judge(rule, name, _aged(result, trial.config["train"]))
        if decision == TrialScheduler.CONTINUE:
            return decision
        if name == trial_name(MAIN_NETWORK, 0) and is_paper_point(0, trial.config["train"]):
            # A test of the winner against the paper's values needs both trained to their end.
            return str(TrialScheduler.CONTINUE)
        if decision == TrialScheduler.STOP:
            self._on_prune(name, result["epoch"])
            return decision
        # Such a network could not use the slot, and resuming a trial costs time.
        is_whole_anyway = self._num_trials[network] <= self._num_wanted(network)
        if is_whole_anyway or self._pruner.next_paused(rule, {name}):
            return str(TrialScheduler.CONTINUE)
        self._on_pause(name, result["epoch"])
        return str(TrialScheduler.STOP)

    def next_paused(self, network: str, paused: Collection[str]) -> str | None:
        """Return the paused trial of a network that goes on before a new one starts; None where none does."""
        return self._pruner.next_paused(self._rules[network], paused)

    def last_paused(self, network: str, paused: Collection[str], num_whole: int) -> str | None:
        """Return the paused trial that goes on when all trials of a network have started, and none of them runs.

        Args:
            network: name of the network.
            paused: names of its paused trials.
            num_whole: number of its trials that have trained all their epochs. When the final stage has all its
                finalists, no further trial goes on.
        """
        if num_whole >= self._num_wanted(network):
            return None
        return self._pruner.next_paused(self._rules[network], paused, has_quota=False)

    def hopeless(self, network: str, paused: Collection[str]) -> list[str]:
        """Return the paused trials of a network that cannot go on any more."""
        if self._num_trials[network] <= self._num_wanted(network):
            return []
        return self._pruner.hopeless(self._rules[network], paused, self._num_trials[network])

    def rungs(self) -> dict[str, dict[int, dict[str, float]]]:
        """Return, by network and age of a rung, the value with which each trial reached it; empty without rungs."""
        found = {network: self._pruner.rungs(rule) for network, rule in self._rules.items()}
        return {network: rungs for network, rungs in found.items() if rungs}

    def debug_string(self) -> str:
        """Return Ray's description of each network's rule."""
        return "\n".join(f"{network}: {rule.debug_string()}" for network, rule in self._rules.items())

    def _num_wanted(self, network: str) -> int:
        """Return the number of finalists of a network."""
        return num_finalists(self._config) if network == MAIN_NETWORK else 1

    def _rebuild(self, record: TrialRecord, epochs: Sequence[EpochRecord], num_heard: int) -> None:
        """Give the network's rule the epochs of a trial that were judged; the last epoch of a trial never is."""
        last = min(num_heard, self._config.train.epochs - 1)
        best = 0.0
        for epoch in epochs:
            best = max(best, epoch.objective)
            if not epoch.failure and epoch.epoch <= last:
                result = {"epoch": epoch.epoch, OBJECTIVE: epoch.objective, BEST: best}
                rule = self._rule_of(record.network, record.name, epoch.epoch)
                self._pruner.remember(rule, record.name, _aged(result, record.train))

    def _rule_of(self, network: str, name: str, epoch: int) -> TrialScheduler:
        """Return the rule of a trial, which knows the trial from its first epoch on."""
        rule = self._rules[network]
        if name not in self._heard:
            ray_private.add(rule, name)
        self._heard[name] = epoch
        return rule


def _aged(result: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, AGE: age_of(result["epoch"], train["optim"]["milestones"])}
