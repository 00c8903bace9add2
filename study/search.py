"""The searcher: one Optuna study a network, in a journal file of the results folder.

Ray Tune asks for points and tells how trials went; Optuna's journal remembers. What Optuna is told is decided here: a
finished trial as COMPLETE with its best epoch's objective, a pruned one as PRUNED with the values it reached, a failed
one as FAIL. TPE ranks pruned trials below finished ones, so that budgets are not mixed.

Each point is drawn by a sampler seeded with (seed, trial number): a study that was interrupted goes on with the points
that the undisturbed one would have drawn from the same history.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from renalnet.config import TrainConfig
from renalnet.log import get_logger
from renalnet.train import EpochRecord
from renalnet.types import NetName
from study import layout, space
from study.collect import State, TrialRecord, read_epochs, read_records, write_record, write_tables
from study.config import Slots, StudyConfig

OBJECTIVE = "objective"
BEST = "best_objective"
FAILURE = "failure"
TABLES_EVERY_S = 30.0
_log = get_logger(__name__)


class NetworkSearch(Searcher):
    """Suggests trials network by network until each has its number; unfinished ones of an earlier run come first."""

    def __init__(
        self, config: StudyConfig, results: str, journal: str, widths: Mapping[NetName, int], slots: Slots
    ) -> None:
        """Open, or create, the studies of a results folder.

        Args:
            config: the whole study.
            results: the results folder, any path that `storage` knows.
            journal: a local path for Optuna's journal.
            widths: channels at full resolution of each network.
            slots: what a trial occupies.
        """
        super().__init__(metric=OBJECTIVE, mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config = config
        self._results = results
        self._widths = widths
        self._slots = slots
        storage = JournalStorage(JournalFileBackend(journal))
        self._studies = {network: self._open_study(storage, network) for network in self._config.search.budget}
        self._unfinished = self._settle()
        self._tables_written = time.monotonic()
        self._running: dict[str, tuple[Trial, TrialRecord]] = {}

    @property
    def num_planned(self) -> int:
        """Trials of the whole study."""
        return sum(self._config.search.budget.values())

    @property
    def num_left(self) -> int:
        """Trials that have not ended."""
        return self.num_planned - self._num_ended()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; `FINISHED` when every network has its number of trials."""
        trial_and_network = self._next_trial()
        if trial_and_network is None:
            return str(Searcher.FINISHED)
        trial, network = trial_and_network
        record = self._record(trial, network)
        self._running[trial_id] = trial, record
        write_record(self._results, record)
        return {"name": record.name, "network": network, "train": record.train, **record.point}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep an epoch's objective as Optuna's intermediate value."""
        trial, _ = self._running[trial_id]
        trial.report(result[OBJECTIVE], result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep in the trial's record how it ended, then tell Optuna; the run's own log says what it reached."""
        trial, record = self._running.pop(trial_id)
        epochs = read_epochs(self._results, record.name)
        ended = record.ended(*self._outcome(record, epochs, error or result is None))
        write_record(self._results, ended)
        self._tell(trial, ended, epochs)
        self._log_end(ended, epochs)
        self._refresh_tables()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def _outcome(self, record: TrialRecord, epochs: Sequence[EpochRecord], was_lost: bool) -> tuple[State, str]:
        if was_lost:
            return "failed", f"it raised an error or its process was lost; see tune/{record.name}/error.txt"
        if not epochs:
            return "failed", f"its epochs are not seen here: {self._results} must be a folder that all nodes share"
        if epochs[-1].failure:
            return "failed", epochs[-1].failure
        if len(epochs) < record.train["epochs"]:
            factor = self._config.search.reduction_factor
            return "pruned", f"not among the best 1/{factor} of its network's trials at epoch {len(epochs)}"
        return "complete", "all epochs trained"

    def _tell(self, trial: Trial, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        study = self._study_of(record.network)
        known = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        objectives = {epoch.epoch: epoch.objective for epoch in epochs if not epoch.failure}
        for epoch in objectives.keys() - known.keys():  # Ray keeps the value that a trial is pruned for to itself
            trial.report(objectives[epoch], epoch)
        if record.state == "complete":
            study.tell(trial, max(objectives.values()), TrialState.COMPLETE)
        else:
            study.tell(trial, state=TrialState.PRUNED if record.state == "pruned" else TrialState.FAIL)

    def _log_end(self, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        best = max((epoch.objective for epoch in epochs), default=0.0)
        _log.info(
            "%3d of %d trials  %-14s %-8s  best objective %.3f  (%s)",
            *(self._num_ended(), self.num_planned, record.name, record.state, best, record.reason),
        )

    def _refresh_tables(self) -> None:
        """Tables for a report of a running study, at most twice a minute, since all trials are read for them."""
        if time.monotonic() - self._tables_written > TABLES_EVERY_S:
            write_tables(self._results)
            self._tables_written = time.monotonic()

    def _settle(self) -> list[tuple[NetName, int]]:
        """Tell Optuna of trials whose end was kept but not told; returns those that have not ended."""
        ended = {record.name: record for record in read_records(self._results) if record.state != "running"}
        unfinished = []
        for network, study in self._studies.items():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                name = layout.trial_name(network, frozen.number)
                if name in ended:
                    self._tell(self._trial(network, frozen.number), ended[name], read_epochs(self._results, name))
                else:
                    unfinished.append((network, frozen.number))
        return unfinished

    def _trial(self, network: NetName, number: int) -> Trial:
        """A trial that an earlier driver asked for; what it had not drawn yet is drawn as it would have been."""
        study = self._studies[network]
        study.sampler = self._sampler(number)
        return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)

    def _study_of(self, network: str) -> optuna.Study:
        return next(study for name, study in self._studies.items() if name == network)

    def _num_ended(self) -> int:
        studies = self._studies.values()
        return sum(trial.state.is_finished() for study in studies for trial in study.get_trials(deepcopy=False))

    def _open_study(self, storage: JournalStorage, network: NetName) -> optuna.Study:
        study = optuna.create_study(
            study_name=network,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=self._sampler(0),
        )
        study.enqueue_trial(space.paper_point(self._config.train, network), skip_if_exists=True)
        return study

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=self._config.search.num_startup_trials,
            multivariate=True,
            constant_liar=True,
            seed=(self._config.seed * 1_000_003 + number) % 2**32,
        )

    def _next_trial(self) -> tuple[Trial, NetName] | None:
        if self._unfinished:
            network, number = self._unfinished.pop(0)
            return self._trial(network, number), network
        for network, budget in self._config.search.budget.items():
            study = self._studies[network]
            asked = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
            if len(asked) < budget:
                study.sampler = self._sampler(len(asked))
                return study.ask(), network
        return None

    def _record(self, trial: Trial, network: NetName) -> TrialRecord:
        point = space.suggest(trial, self._config.space, network)
        train = self.train_config(network, point)
        return TrialRecord(
            trial=trial.number,
            network=network,
            state="running",
            point=point,
            train=train.model_dump(mode="json"),
            cpus=self._slots.cpus,
            gpus=self._slots.gpus,
        )

    def train_config(self, network: NetName, point: space.Point) -> TrainConfig:
        """The training run of a point; every trial of a study shares the study's seed."""
        base = self._config.train.model_copy(update={"seed": self._config.seed})
        return space.configure(base, self._config.space, network, self._widths[network], point)
