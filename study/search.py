"""The searcher: one Optuna study a network, in a journal file of the results folder.

Ray Tune asks for points and tells how trials went; Optuna's journal remembers. What Optuna is told is decided here: a
finished trial as COMPLETE with its best epoch's objective, a pruned one as PRUNED with the values it reached, a failed
one as FAIL. TPE ranks pruned trials below finished ones, so that budgets are not mixed.

Each point is drawn by a sampler seeded with (seed, trial number): a study that was interrupted goes on with the points
that the undisturbed one would have drawn from the same history.
"""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from renalnet.config import TrainConfig
from renalnet.log import get_logger
from renalnet.types import NetName
from study import space
from study.collect import State, TrialRecord, write_record
from study.config import Slots, StudyConfig

OBJECTIVE = "objective"
BEST = "best_objective"
FAILURE = "failure"
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
        self._studies = {network: self._open_study(storage, network) for network in self._budget()}
        self._unfinished = [
            (network, frozen.number)
            for network, study in self._studies.items()
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        ]
        self._running: dict[str, tuple[Trial, TrialRecord]] = {}

    @property
    def num_planned(self) -> int:
        """Trials of the whole study."""
        return sum(self._budget().values())

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
        """Tell Optuna and the trial's record how it ended."""
        trial, record = self._running.pop(trial_id)
        state, reason = _outcome(record, result, error)
        study = self._studies[record.network]  # type: ignore[index]
        if state == "complete" and result is not None:
            study.tell(trial, result[BEST], TrialState.COMPLETE)
        else:
            study.tell(trial, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
        write_record(self._results, record.ended(state, reason))
        self._log_end(record, state, reason, result)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def _log_end(self, record: TrialRecord, state: State, reason: str, result: dict[str, Any] | None) -> None:
        score = f"{result[BEST]:.3f}" if result else "none"
        _log.info(
            "%3d of %d trials  %-14s %-8s  best objective %s  (%s)",
            *(self._num_ended(), self.num_planned, record.name, state, score, reason),
        )

    def _num_ended(self) -> int:
        studies = self._studies.values()
        return sum(trial.state.is_finished() for study in studies for trial in study.get_trials(deepcopy=False))

    def _budget(self) -> dict[NetName, int]:
        search = self._config.search
        return {"fcn_ppm": search.num_trials, **dict.fromkeys(search.baselines, search.baseline_trials)}

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
            seed=self._config.seed * 1_000_003 + number,
        )

    def _next_trial(self) -> tuple[Trial, NetName] | None:
        if self._unfinished:
            network, number = self._unfinished.pop(0)
            study = self._studies[network]
            return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id), network
        for network, budget in self._budget().items():
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


def _outcome(record: TrialRecord, result: dict[str, Any] | None, error: bool) -> tuple[State, str]:
    if error or result is None:
        return "failed", "its process was lost more often than max_failures allows, or it raised an error"
    if result[FAILURE]:
        return "failed", str(result[FAILURE])
    if result["epoch"] < record.train["epochs"]:
        return "pruned", f"below the best third at epoch {result['epoch']}"
    return "complete", "all epochs trained"
