"""The searcher of finalists' repeats: it searches nothing, hands out the runs that are left and keeps how they end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from renalnet.data.store.reader import Store
from renalnet.runtime.log import get_logger
from renalnet.train.epochs import best_of
from study.config.sections import Slots, StudyConfig
from study.execution.tuner import fit
from study.finalists.repeats import left_of, list_repeats
from study.records.trials import State, Tables, TrialRecord, read_epochs, write_record
from study.search.outcome import SecondStarts, outcome
from study.search.searcher import OBJECTIVE

_CUT_SHORT: Final[tuple[State, str]] = ("failed", "ended before its last epoch, though nobody prunes a repeat")
_log = get_logger(__name__)


class RepeatSearch(Searcher):
    """Suggests the planned runs in their order."""

    def __init__(self, results: str, planned: list[TrialRecord], slots: Slots) -> None:
        """Nothing is begun yet; what has ended in `results` is left out."""
        super().__init__(metric=OBJECTIVE, mode="max")
        self._results, self._num_planned, self._slots = results, len(planned), slots
        self._waiting = left_of(planned, results)
        self._tables = Tables(results)
        self._running: dict[str, TrialRecord] = {}
        self._again = SecondStarts()

    @property
    def num_left(self) -> int:
        """Runs that have not ended."""
        return len(self._waiting) + len(self._running)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run's configuration; `FINISHED` when all have ended, none while some run."""
        if not self._waiting:
            return None if self._running else str(Searcher.FINISHED)
        record = replace(self._waiting.pop(0), cpus=self._slots.cpus, gpus=self._slots.gpus)
        self._running[trial_id] = record
        write_record(self._results, record)
        about = {"fold": record.fold, "num_folds": record.num_folds}
        return {"name": record.name, "network": record.network, "train": record.train, **about}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the run's own log says what it reached."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep in the run's record how it ended."""
        record = self._running.pop(trial_id)
        epochs = read_epochs(self._results, record.name)
        was_lost = error or result is None
        if was_lost and self._again.allows(record.name):
            self._waiting.insert(0, record)
            return
        ended = record.ended(*outcome(self._results, record, epochs, was_lost=was_lost, short=_CUT_SHORT))
        write_record(self._results, ended)
        best = best_of(epochs)
        _log.info(
            "%3d of %d repeats  %-24s %-8s  best objective %.3f  (%s)",
            *(self._num_planned - self.num_left, self._num_planned, ended.name, ended.state),
            *(best.objective if best else 0.0, ended.reason),
        )
        self._tables.write()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records hold the whole state."""


def run_repeats(config: StudyConfig, results: str, store: Store, slots: Slots, check: Callable[[], None]) -> None:
    """Run every repeat of the finalists that has not ended yet.

    Args:
        config: the whole study.
        results: the results folder.
        store: whose patients the runs learn from.
        slots: what a run occupies.
        check: called now and then; raises where this driver must stop.

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
        raise KeyboardInterrupt  # Tune returns as if all were done; the test patients must not be read now
