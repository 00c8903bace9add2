"""The searcher: one Optuna study per network, in a journal file of the results folder.

Ray Tune asks for points and reports how trials go; Optuna's journal keeps both. The searcher decides what Optuna is
told: a finished trial is COMPLETE with the objective of its best epoch, a pruned trial is PRUNED with the objectives it
reached, and a failed trial is FAIL. A paused trial stays RUNNING: for Ray Tune it has ended, and it is suggested again
when the scheduler names it. TPE ranks pruned trials below finished ones, so trials of different length are not
mixed. For the same reason, trials of another length are another Optuna study, `fcn_ppm-12-epochs`
(`study.search.extension`).
"""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from renalnet.config import MAIN_NETWORK, NetName, TrainConfig
from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord
from study.config import space
from study.config.sections import Slots, StudyConfig
from study.records.ledger import Ledger
from study.records.names import trial_name
from study.records.results import Results
from study.records.retention import Retention
from study.records.trials import Tables, TrialRecord, find_record, read_curves, read_epochs, read_records, write_record
from study.search.extension import open_study
from study.search.journal import StudyJournal
from study.search.optuna_private import resumed_trial
from study.search.outcome import SecondStarts, leaves_tune, outcome, refuse_fault
from study.search.pruner import HEARD, OBJECTIVE, make_pruner
from study.search.sampler import draw, make_sampler
from study.search.scheduler import NetworkScheduler
from study.search.trial_counts import count_trials

TABLES_EVERY_S: Final = 30.0
"""Time between two writings of the tables, for which all running trials are read."""
_log = get_logger(__name__)


class NetworkSearch(Searcher):
    """A searcher that suggests trials network by network, each network up to its number of trials.

    Unfinished trials of an earlier driver come first, then paused trials that the scheduler promotes, then new ones.
    """

    def __init__(
        self,
        config: StudyConfig,
        results: Results,
        journal: StudyJournal,
        widths: Mapping[NetName, Mapping[int, int]],
        slots: Slots,
    ) -> None:
        """Open, or create, the Optuna studies of a results folder.

        Args:
            config: the whole study.
            results: the results folder.
            journal: journal of the folder, open until the search has ended.
            widths: for each network, its own width for each width of 3D_FCN_PPM.
            slots: processors and GPUs of a trial.
        """
        super().__init__(metric=OBJECTIVE, mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # `_log_end` logs a line per trial
        self._config = config
        self._results = results
        self._widths = widths
        self._slots = slots
        self._pruner = make_pruner(config)
        self._domains = {network: space.domains(config.space, network) for network in self._networks}
        self._journal = journal
        self._studies = {
            network: open_study(journal, config, results, network, self._domains[network]) for network in self._networks
        }
        self._ledger = Ledger(results)
        self._retention = Retention(results, config.search.kept_models)
        self._paused: dict[NetName, dict[str, int]] = {network: {} for network in self._networks}
        self._unfinished = self._reconcile()
        self._tables = Tables(results)
        self._tables_written = time.monotonic()
        self._running: dict[str, tuple[Trial, TrialRecord]] = {}
        self._again = SecondStarts()

    @property
    def num_planned(self) -> int:
        """Number of trials in the whole study."""
        return sum(self._budget().values())

    @property
    def num_left(self) -> int:
        """Number of trials that have not ended."""
        return self.num_planned - self._num_ended()

    @cached_property
    def scheduler(self) -> NetworkScheduler:
        """The scheduler that judges this searcher's trials. It starts with what they have reported so far."""
        return NetworkScheduler(self._config, self._results, self.heard(), self.on_prune, self.on_pause)

    @leaves_tune
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial.

        If all trials are given out, return None while some run, and `FINISHED` when all have ended.
        """
        trial_and_network = self._next_trial()
        if trial_and_network is None:
            if self._running:
                return None
            self._end_paused()
            return str(Searcher.FINISHED)
        trial, network = trial_and_network
        record = self._record(trial, network)
        self._running[trial_id] = trial, record
        self._journal.flush()  # before the record: the stored journal must know every trial that has one
        self._ledger.drop_trial(record.name)
        write_record(self._results, record)
        heard = self._heard(trial)
        return {"name": record.name, "network": network, "train": record.train, HEARD: heard, **record.point}

    def heard(self) -> dict[str, int]:
        """Return, for each trial that has not ended, the number of epochs that were reported, and so judged."""
        paused = [(network, number) for network, names in self._paused.items() for number in names.values()]
        return {
            trial_name(network, number): self._heard(self._trial(network, number))
            for network, number in [*self._unfinished, *paused]
        }

    @leaves_tune
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch's objective to Optuna as an intermediate value."""
        refuse_fault(result)
        trial, _ = self._running[trial_id]
        self._report(trial, {result["epoch"]: result[OBJECTIVE]})

    @leaves_tune
    def on_prune(self, name: str, epoch: int) -> None:
        """Write into a trial's record that it is pruned, before Ray ends it."""
        write_record(self._results, self._record_of(name).ended("pruned", self._pruner.reason(epoch)))

    @leaves_tune
    def on_pause(self, name: str, epoch: int) -> None:
        """Write into a trial's record that it is paused, before Ray ends it."""
        record = self._record_of(name)
        write_record(self._results, record.ended("paused", f"paused at epoch {epoch}"))
        network = next(network for network in self._networks if network == record.network)
        self._paused[network][name] = record.trial

    @leaves_tune
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write into a trial's record how it ended, then tell Optuna. The trial's own log says what it reached."""
        trial, record = self._running.pop(trial_id)
        epochs = read_epochs(self._results, record.name)
        network = next(network for network in self._networks if network == record.network)
        if record.name in self._paused[network]:
            # Ray reports the last value of a trial that leaves with its end only.
            self._report(trial, _objectives(epochs))
            self._end_hopeless(network)
            return
        was_lost = error or result is None
        if was_lost and self._again.allows(record.name):
            self._unfinished.insert(0, (network, record.trial))  # its checkpoint is the newest, so it goes first
            return
        short = self._pruner.reason(len(epochs))
        ended = record.ended(*outcome(self._results, record, epochs, was_lost=was_lost, short=("pruned", short)))
        self._end(trial, ended, epochs)
        self._end_hopeless(network)

    def _end(self, trial: Trial, ended: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        """Write the record of a trial that has ended, and tell everyone who counts trials."""
        # First the record: if this driver is killed in between, the next one tells Optuna what the record says.
        write_record(self._results, ended)
        self._tell(trial, ended, epochs)
        self._retention.add(ended, epochs)
        self._ledger.add_trial(ended.name)
        self._log_end(ended, epochs)
        self._refresh_tables()

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds the searcher's whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds the searcher's whole state."""

    def _record_of(self, name: str) -> TrialRecord:
        return next(record for _, record in self._running.values() if record.name == name)

    def _end_hopeless(self, network: NetName) -> None:
        """End the paused trials of a network that cannot go on any more."""
        for name in self.scheduler.hopeless(network, self._paused[network]):
            self._end_as_pruned(network, name)

    def _end_paused(self) -> None:
        """End all paused trials, because nothing is left to run."""
        for network in self._networks:
            for name in list(self._paused[network]):
                self._end_as_pruned(network, name)

    def _end_as_pruned(self, network: NetName, name: str) -> None:
        number = self._paused[network].pop(name)
        record = find_record(self._results, name)
        assert record is not None
        epochs = read_epochs(self._results, name)
        self._end(self._trial(network, number), record.ended("pruned", self._pruner.reason(len(epochs))), epochs)

    def _tell(self, trial: Trial, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        """Tell Optuna how a trial ended."""
        study = self._study_of(record.network)
        whole = [epoch for epoch in epochs if not epoch.failure]
        # Ray reports the last value of a pruned trial with its end only.
        self._report(trial, _objectives(epochs))
        if record.state == "complete":
            study.tell(trial, self._values(max(whole, key=lambda epoch: epoch.objective)), TrialState.COMPLETE)
        else:
            study.tell(trial, state=TrialState.PRUNED if record.state == "pruned" else TrialState.FAIL)

    def _values(self, best: EpochRecord) -> list[float]:
        """Return the values of a finished trial, from its best epoch."""
        if self._config.search.objective == "pareto":
            return list(best.dice.values())
        return [best.objective]

    def _report(self, trial: Trial, objectives: Mapping[int, float]) -> None:
        """Report objectives by epoch to Optuna, each epoch once; Optuna takes none with two objectives."""
        if self._config.search.objective == "pareto":
            return
        for epoch in sorted(objectives):
            # Optuna ignores a second value for an epoch, and warns.
            if epoch > self._heard(trial):
                trial.report(objectives[epoch], epoch)

    def _heard(self, trial: Trial) -> int:
        """Return the number of epochs that Optuna knows of a trial."""
        # Optuna's default is a deep copy of every trial, which takes longer with each trial of the study.
        return max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)

    def _log_end(self, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        _log.info(
            "%3d of %d trials  %-14s %-8s  best objective %.3f  (%s)",
            *(self._num_ended(), self.num_planned, record.name, record.state, _best(epochs), record.reason),
        )

    def _refresh_tables(self) -> None:
        """Write the tables for a report of the running study, at most every `TABLES_EVERY_S`."""
        if time.monotonic() - self._tables_written > TABLES_EVERY_S:
            self._tables.write()
            self._tables_written = time.monotonic()

    def _reconcile(self) -> list[tuple[NetName, int]]:
        """Tell Optuna of ends that only the records know. Return network and number of the trials that go on."""
        records = {record.name: record for record in read_records(self._results)}
        ended = {name: record for name, record in records.items() if record.has_ended}
        curves = read_curves(self._results, ended.values())
        self._retention.find((ended[name], epochs) for name, epochs in curves.items())
        # Those whose driver was killed before it entered them, and those whose records were lengthened.
        self._ledger.add_new_trials(ended)
        unfinished = []
        for network, study in self._studies.items():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                name = trial_name(network, frozen.number)
                if name in ended:
                    self._tell(self._trial(network, frozen.number), ended[name], read_epochs(self._results, name))
                elif name in records and records[name].state == "paused":
                    self._paused[network][name] = frozen.number
                    # Its driver may have been killed before it reported the epoch after which the trial paused.
                    self._report(self._trial(network, frozen.number), _objectives(read_epochs(self._results, name)))
                else:
                    unfinished.append((network, frozen.number))
        return unfinished

    def _trial(self, network: NetName, number: int) -> Trial:
        """Return a trial that an earlier driver asked for; missing parameters are drawn as that driver would have."""
        study = self._studies[network]
        study.sampler = self._sampler(network, number)
        return resumed_trial(self._journal, study, number)

    def _study_of(self, network: str) -> optuna.Study:
        return next(study for name, study in self._studies.items() if name == network)

    def _num_ended(self) -> int:
        studies = self._studies.values()
        return sum(trial.state.is_finished() for study in studies for trial in study.get_trials(deepcopy=False))

    @property
    def _networks(self) -> tuple[NetName, ...]:
        return (MAIN_NETWORK, *self._config.search.baselines)

    def _budget(self) -> dict[NetName, int]:
        """Return the trials of each network: the planned number, but at least the number that have started."""
        return {
            network: max(number, self._num_begun(network)) for network, number in count_trials(self._config).items()
        }

    def _num_begun(self, network: NetName) -> int:
        trials = self._studies[network].get_trials(deepcopy=False)
        # The enqueued first point is waiting until `ask` takes it.
        return sum(trial.state != TrialState.WAITING for trial in trials)

    def _sampler(self, network: NetName, number: int) -> BaseSampler:
        return make_sampler(self._config.search, self._domains[network], self._config.seed, number)

    def _next_trial(self) -> tuple[Trial, NetName] | None:
        scheduler = self.scheduler  # before the first trial is taken: it counts the epochs of all that are left
        if self._unfinished:
            network, number = self._unfinished.pop(0)
            return self._trial(network, number), network
        for network, budget in self._budget().items():
            if name := scheduler.next_paused(network, self._paused[network]):
                return self._resumed(network, name)
            # A waiting trial is always the first, so this is the number that `ask` gives to the next trial.
            number = self._num_begun(network)
            if number < budget:
                study = self._studies[network]
                study.sampler = self._sampler(network, number)
                return study.ask(), network
            if not self._is_running(network) and (name := self._last_paused(network)):
                return self._resumed(network, name)
        return None

    def _last_paused(self, network: NetName) -> str | None:
        """Return the paused trial of a network that goes on because the final stage lacks finalists."""
        trials = self._studies[network].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self.scheduler.last_paused(network, self._paused[network], len(trials))

    def _is_running(self, network: NetName) -> bool:
        return any(record.network == network for _, record in self._running.values())

    def _resumed(self, network: NetName, name: str) -> tuple[Trial, NetName]:
        return self._trial(network, self._paused[network].pop(name)), network

    def _record(self, trial: Trial, network: NetName) -> TrialRecord:
        """Return the record of a trial that starts; a trial that has started before keeps its point and run."""
        # Not drawn anew, because the configuration may have changed since the trial started.
        known = find_record(self._results, trial_name(network, trial.number))
        point = draw(trial, self._domains[network]) if known is None else known.point
        train = self._train_config(network, point).model_dump(mode="json") if known is None else known.train
        return TrialRecord(
            trial=trial.number,
            network=network,
            state="running",
            point=point,
            train=train,
            # Those of this driver, because a study may be resumed with other resources.
            cpus=self._slots.cpus,
            gpus=self._slots.real_gpus,
        )

    def _train_config(self, network: NetName, point: space.Point) -> TrainConfig:
        """Return the training run of a point; every trial has the study's seed."""
        base = self._config.train.model_copy(update={"seed": self._config.seed})
        return space.configure(base, network, self._widths[network], point)


def _objectives(epochs: Sequence[EpochRecord]) -> dict[int, float]:
    return {epoch.epoch: epoch.objective for epoch in epochs if not epoch.failure}


def _best(epochs: Sequence[EpochRecord]) -> float:
    """Return the best objective of a trial; 0 if it has finished no epoch."""
    return max((epoch.objective for epoch in epochs), default=0.0)
