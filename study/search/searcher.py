"""The searcher: one Optuna study a network, in a journal file of the results folder.

Ray Tune asks for points and tells how trials went; Optuna's journal remembers. What Optuna is told is decided here: a
finished trial as COMPLETE with its best epoch's objective, a pruned one as PRUNED with the values it reached, a failed
one as FAIL. TPE ranks pruned trials below finished ones, so that budgets are not mixed. Trials of another length are
another Optuna study, `fcn_ppm-12-epochs`, for the same reason (`study.search.extension`).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from renalnet.config import MAIN_NETWORK, NetName, TrainConfig
from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord
from study.config.sections import Slots, StudyConfig
from study.records import paths
from study.records.trials import Tables, TrialRecord, find_record, read_curves, read_epochs, read_records, write_record
from study.config import space
from study.search.extension import open_study
from study.search.journal import StudyJournal
from study.search.outcome import SecondStarts, outcome
from study.search.retention import Retention
from study.search.samplers import draw, make_sampler
from study.search.trial_counts import count_trials

OBJECTIVE = "objective"
BEST = "best_objective"
FAILURE = "failure"
HEARD = "heard"
"""How many epochs of a trial the searcher has heard of: those that it trained before its driver was lost."""
TABLES_EVERY_S = 30.0
_log = get_logger(__name__)


class NetworkSearch(Searcher):
    """Suggests trials network by network until each has its number; unfinished ones of an earlier run come first."""

    def __init__(
        self,
        config: StudyConfig,
        results: str,
        journal: StudyJournal,
        widths: Mapping[NetName, Mapping[int, int]],
        slots: Slots,
    ) -> None:
        """Open, or create, the studies of a results folder.

        Args:
            config: the whole study.
            results: the results folder, any path that `storage` knows.
            journal: the folder's, open until the search has ended.
            widths: for each network, its own width for each of 3D_FCN_PPM's.
            slots: what a trial occupies.
        """
        super().__init__(metric=OBJECTIVE, mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config = config
        self._results = results
        self._widths = widths
        self._slots = slots
        self._domains = {network: space.domains(config.space, network) for network in self._networks}
        self._journal = journal
        self._studies = {
            network: open_study(journal, config, results, network, self._domains[network]) for network in self._networks
        }
        self._retention = Retention(results, config.search.kept_models)
        self._unfinished = self._settle()
        self._tables, self._tables_written = Tables(results), time.monotonic()
        self._running: dict[str, tuple[Trial, TrialRecord]] = {}
        self._again = SecondStarts()

    @property
    def num_planned(self) -> int:
        """Trials of the whole study."""
        return sum(self._budget().values())

    @property
    def num_left(self) -> int:
        """Trials that have not ended."""
        return self.num_planned - self._num_ended()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; `FINISHED` when every network's trials have ended, none while some run."""
        trial_and_network = self._next_trial()
        if trial_and_network is None:
            return None if self._running else str(Searcher.FINISHED)
        trial, network = trial_and_network
        record = self._record(trial, network)
        self._running[trial_id] = trial, record
        self._journal.flush()  # no trial exists that the stored journal does not know
        write_record(self._results, record)
        heard = self._heard(trial)
        return {"name": record.name, "network": network, "train": record.train, HEARD: heard, **record.point}

    def heard(self) -> dict[str, int]:
        """Epochs that have been heard, and so judged, of each trial that has not ended."""
        return {
            paths.trial_name(network, number): self._heard(self._trial(network, number))
            for network, number in self._unfinished
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep an epoch's objective as Optuna's intermediate value."""
        trial, _ = self._running[trial_id]
        self._report(trial, {result["epoch"]: result[OBJECTIVE]})

    def on_prune(self, name: str, epoch: int) -> None:
        """Keep that a trial is pruned, before Ray ends it."""
        record = next(record for _, record in self._running.values() if record.name == name)
        write_record(self._results, record.ended("pruned", self._why_pruned(epoch)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep in the trial's record how it ended, then tell Optuna; the run's own log says what it reached."""
        trial, record = self._running.pop(trial_id)
        epochs = read_epochs(self._results, record.name)
        was_lost, short = error or result is None, self._why_pruned(len(epochs))
        if was_lost and self._again.allows(record.name):
            network = next(network for network in self._networks if network == record.network)
            self._unfinished.insert(0, (network, record.trial))
            return
        ended = record.ended(*outcome(self._results, record, epochs, was_lost=was_lost, short=("pruned", short)))
        write_record(self._results, ended)
        self._tell(trial, ended, epochs)
        self._retention.add(ended, epochs)
        self._log_end(ended, epochs)
        self._refresh_tables()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the searcher's whole state."""

    def _why_pruned(self, epoch: int) -> str:
        if self._config.search.pruner == "median":
            return f"below the median of its network's trials at epoch {epoch}"
        factor = self._config.search.reduction_factor
        return f"not among the best 1/{factor} of its network's trials at epoch {epoch}"

    def _tell(self, trial: Trial, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        study = self._study_of(record.network)
        whole = [epoch for epoch in epochs if not epoch.failure]
        self._report(trial, {epoch.epoch: epoch.objective for epoch in whole})  # Ray keeps a pruned one's last value
        if record.state == "complete":
            study.tell(trial, self._values(max(whole, key=lambda epoch: epoch.objective)), TrialState.COMPLETE)
        else:
            study.tell(trial, state=TrialState.PRUNED if record.state == "pruned" else TrialState.FAIL)

    def _values(self, best: EpochRecord) -> list[float]:
        """What Optuna is told of a finished trial's best epoch."""
        if self._config.search.objective == "pareto":
            return [best.dice_kidney, best.dice_tumor]
        return [best.objective]

    def _report(self, trial: Trial, objectives: Mapping[int, float]) -> None:
        """Keep an epoch's objective as Optuna's intermediate value, once; it takes none of two objectives."""
        if self._config.search.objective == "pareto":
            return
        for epoch in sorted(objectives):
            if epoch > self._heard(trial):
                trial.report(objectives[epoch], epoch)

    def _heard(self, trial: Trial) -> int:
        return max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)

    def _log_end(self, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        _log.info(
            "%3d of %d trials  %-14s %-8s  best objective %.3f  (%s)",
            *(self._num_ended(), self.num_planned, record.name, record.state, _best(epochs), record.reason),
        )

    def _refresh_tables(self) -> None:
        """Tables for a report of a running study, at most twice a minute, since all trials are read for them."""
        if time.monotonic() - self._tables_written > TABLES_EVERY_S:
            self._tables.write()
            self._tables_written = time.monotonic()

    def _settle(self) -> list[tuple[NetName, int]]:
        """Tell Optuna of trials whose end was kept but not told; returns those that have not ended."""
        ended = {record.name: record for record in read_records(self._results) if record.state != "running"}
        curves = read_curves(self._results, ended.values())
        self._retention.find((ended[name], epochs) for name, epochs in curves.items())
        unfinished = []
        for network, study in self._studies.items():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                name = paths.trial_name(network, frozen.number)
                if name in ended:
                    self._tell(self._trial(network, frozen.number), ended[name], read_epochs(self._results, name))
                else:
                    unfinished.append((network, frozen.number))
        return unfinished

    def _trial(self, network: NetName, number: int) -> Trial:
        """A trial that an earlier driver asked for; what it had not drawn yet is drawn as it would have been."""
        study = self._studies[network]
        study.sampler = self._sampler(network, number)
        return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)

    def _study_of(self, network: str) -> optuna.Study:
        return next(study for name, study in self._studies.items() if name == network)

    def _num_ended(self) -> int:
        studies = self._studies.values()
        return sum(trial.state.is_finished() for study in studies for trial in study.get_trials(deepcopy=False))

    @property
    def _networks(self) -> tuple[NetName, ...]:
        return (MAIN_NETWORK, *self._config.search.baselines)

    def _budget(self) -> dict[NetName, int]:
        """Trials of each network: as many as are planned, and no fewer than have been begun."""
        return {
            network: max(number, self._num_begun(network)) for network, number in count_trials(self._config).items()
        }

    def _num_begun(self, network: NetName) -> int:
        trials = self._studies[network].get_trials(deepcopy=False)
        return sum(trial.state != TrialState.WAITING for trial in trials)

    def _sampler(self, network: NetName, number: int) -> optuna.samplers.BaseSampler:
        return make_sampler(self._config.search, self._domains[network], self._config.seed, number)

    def _next_trial(self) -> tuple[Trial, NetName] | None:
        if self._unfinished:
            network, number = self._unfinished.pop(0)
            return self._trial(network, number), network
        for network, budget in self._budget().items():
            study, number = self._studies[network], self._num_begun(network)
            if number < budget:
                study.sampler = self._sampler(network, number)
                return study.ask(), network
        return None

    def _record(self, trial: Trial, network: NetName) -> TrialRecord:
        """The record of a trial that starts: that of its first start, if it has one."""
        known = find_record(self._results, paths.trial_name(network, trial.number))
        point = draw(trial, self._domains[network]) if known is None else known.point
        train = self._train_config(network, point).model_dump(mode="json") if known is None else known.train
        return TrialRecord(
            trial=trial.number,
            network=network,
            state="running",
            point=point,
            train=train,
            cpus=self._slots.cpus,
            gpus=self._slots.gpus,
        )

    def _train_config(self, network: NetName, point: space.Point) -> TrainConfig:
        """The training run of a point; every trial of a study shares the study's seed."""
        base = self._config.train.model_copy(update={"seed": self._config.seed})
        return space.configure(base, network, self._widths[network], point)


def _best(epochs: Sequence[EpochRecord]) -> float:
    """The best objective of a trial; 0 of one that has finished no epoch."""
    return max((epoch.objective for epoch in epochs), default=0.0)
