"""The searcher of the finalists' repeats: it gives out the runs that are left, and records how they end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from renalnet.data.store.reader import Store
from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord, best_of
from study.config.sections import Slots, StudyConfig
from study.execution.tuner import fit
from study.finalists.repeats import left_of, list_repeats
from study.records.ledger import Ledger
from study.records.results import Results
from study.records.trials import State, Tables, TrialRecord, read_epochs, write_record
from study.search.outcome import SecondStarts, leaves_tune, outcome, refuse_fault
from study.search.pruner import OBJECTIVE

_CUT_SHORT: Final[tuple[State, str]] = ("failed", "ended before its last epoch, though nobody prunes a repeat")
_log = get_logger(__name__)


class RepeatSearch(Searcher):
    """A searcher that suggests planned runs in their order."""

    def __init__(self, results: Results, planned: list[TrialRecord], slots: Slots) -> None:
        """Leave out the runs that have ended in a results folder.

        Args:
            results: the results folder.
            planned: records of all repeats, as they start.
            slots: processors and GPUs of a run.
        """
        super().__init__(metric=OBJECTIVE, mode="max")
        self._results = results
        self._num_planned = len(planned)
        self._slots = slots
        self._waiting = left_of(planned, results)
        self._ledger = Ledger(results)
        self._tables = Tables(results)
        self._running: dict[str, TrialRecord] = {}
        self._again = SecondStarts()

    @property
    def num_left(self) -> int:
        """Number of runs that have not ended."""
        return len(self._waiting) + len(self._running)

    @leaves_tune
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next run's configuration.

        If all runs are given out, return None while some run, and `FINISHED` when all have ended.
        """
        if not self._waiting:
            return None if self._running else str(Searcher.FINISHED)
        # Planned records know no slot, and a study may be resumed with other resources.
        record = replace(self._waiting.pop(0), cpus=self._slots.cpus, gpus=self._slots.real_gpus)
        self._running[trial_id] = record
        self._ledger.drop_trial(record.name)
        write_record(self._results, record)
        fold = {"fold": record.fold, "num_folds": record.num_folds}
        return {"name": record.name, "network": record.network, "train": record.train, **fold}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Report nothing: the run's own log says what it reached."""
        refuse_fault(result)

    @leaves_tune
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write into the run's record how it ended."""
        record = self._running.pop(trial_id)
        epochs = read_epochs(self._results, record.name)
        was_lost = error or result is None
        if was_lost and self._again.allows(record.name):
            # Its checkpoint is the newest, so it goes first.
            self._waiting.insert(0, record)
            return
        ended = record.ended(*outcome(self._results, record, epochs, was_lost=was_lost, short=_CUT_SHORT))
        write_record(self._results, ended)
        self._ledger.add_trial(ended.name)
        self._log_end(ended, best_of(epochs))
        self._tables.write()

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the records hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the records hold the whole state."""

    def _log_end(self, record: TrialRecord, best: EpochRecord | None) -> None:
        _log.info(
            "%3d of %d repeats  %-24s %-8s  best objective %.3f  (%s)",
            *(self._num_planned - self.num_left, self._num_planned, record.name, record.state),
            *(best.objective if best else 0.0, record.reason),
        )


def run_repeats(config: StudyConfig, results: Results, store: Store, slots: Slots, check: Callable[[], None]) -> None:
    """Run every repeat of the finalists that has not ended.

    Args:
        config: the whole study.
        results: the results folder.
        store: store with the cases.
        slots: what a run occupies, and how many run at once.
        check: called regularly; raises where this driver must stop.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    planned = list_repeats(config, results)
    searcher = RepeatSearch(results, planned, slots)
    if searcher.num_left == 0:
        return
    _log.info("%d of %d repeats of the finalists to run", searcher.num_left, len(planned))
    fit(searcher, FIFOScheduler(), config, results, store, slots, check)
    if searcher.num_left:
        # After SIGUSR1, Tune returns as if all runs were done. The test cases must not be read then.
        raise KeyboardInterrupt
