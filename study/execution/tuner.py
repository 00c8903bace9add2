"""One run of Ray Tune: the trials that a searcher suggests, in reused actors, until the searcher has no more."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from ray import tune
from ray.tune import TuneError
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import Store
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.config.sections import Slots, StudyConfig
from study.execution.trainable import Trial
from study.progress.progress import StudyFollower, progress_line
from study.records.results import Results
from study.search.outcome import LeaveTune
from study.search.ray_private import CONTROLLER_LOGGER

LINE_EVERY_S: Final = 60.0
"""Time between two lines of progress."""
_log = get_logger(__name__)


def fit(
    searcher: Searcher,
    scheduler: TrialScheduler,
    config: StudyConfig,
    results: Results,
    store: Store,
    slots: Slots,
    check: Callable[[], None],
) -> None:
    """Train every trial that the searcher suggests.

    Args:
        searcher: suggests trials, and is told how they end.
        scheduler: decides after each epoch whether a trial goes on.
        config: the whole study.
        results: the results folder.
        store: store with the cases.
        slots: what a trial occupies, and how many trials run at once.
        check: called regularly; what it raises ends all trials.

    Raises:
        ConfigError: the cases do not fit into memory.
        DiskError: a trial cannot write; it goes on when it is run again.
        OSError: the searcher cannot write.
    """
    describe = {"roi": store.manifest.config.model_dump(mode="json"), "data": store.fingerprint}
    load_cohort(store, config.train.loader).close()  # cases that do not fit are refused once, not by every trial
    trial = tune.with_parameters(Trial, store=store, results=results, describe=describe)
    run_trials(trial, searcher, scheduler, config, results, slots, check)


def run_trials(
    trainable: type,
    searcher: Searcher,
    scheduler: TrialScheduler,
    config: StudyConfig,
    results: Results,
    slots: Slots,
    check: Callable[[], None],
) -> None:
    """Run any trainable at each point that the searcher suggests; see `fit` for the other arguments.

    Raises:
        DiskError: a trial cannot write.
        OSError: the searcher cannot write.
    """
    max_failures = config.resources.max_failures
    # Tune's new output prints tables that cut off the trials; the searcher logs the end of each trial.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # TensorBoard's files reach the results folder with Tune's snapshots only.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
    # Tune would end the run as if it were done, and advise `Tuner.restore`.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Never `Tuner.restore`: the journal and the records say what is left, and Tune's own snapshots are older.
    board = _Board()
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # no limit: the searcher ends the run
            max_concurrent_trials=slots.num_slots,
            reuse_actors=True,  # a new process would import PyTorch and decode the cases again
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            **_tune_storage(results),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            # A run writes its own checkpoints.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[board, _Losses(max_failures), _Live(StudyFollower(config, results, slots), check)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except LeaveTune as left:
        raise left.error from left
    except TuneError as error:
        # What Tune itself could not write stands in the text only, and in the context.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        board.close()


class _Board(TBXLoggerCallback):
    """Writes TensorBoard's files, as Tune does by default, and closes them also where the run is left early.

    The threads of open files print their end when the process ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, Any] = {}

    def log_trial_start(self, trial: Any) -> None:
        """Open the file of a trial."""
        self._open[trial.trial_id] = trial
        super().log_trial_start(trial)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Close the file of a trial."""
        super().log_trial_end(trial, failed)
        self._open.pop(trial.trial_id, None)

    def close(self) -> None:
        """Close the files of all trials."""
        for trial in list(self._open.values()):
            self.log_trial_end(trial)


class _Losses(tune.Callback):
    """Logs one line for each trial that was lost with its process or node and goes on.

    Tune would log Ray's whole traceback instead.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        logging.getLogger(CONTROLLER_LOGGER).setLevel(logging.CRITICAL)

    def on_trial_recover(self, *, trial: Any, **_: Any) -> None:
        """Log that Tune starts a trial again."""
        _log.warning(
            "%s lost its process or node, %d of at most %d times; it goes on from its last checkpoint",
            *(_trial_name(trial), trial.num_failures, self._max_failures),
        )


class _Live(tune.Callback):
    """Every `LINE_EVERY_S`, checks that the study is still this driver's, and logs its progress."""

    def __init__(self, follower: StudyFollower, check: Callable[[], None]) -> None:
        self._follower = follower
        self._check = check
        self._said = time.monotonic()

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Pickle nothing: Ray Tune pickles its callbacks with everything in them, and nobody reads the result."""
        return tune.Callback, ()

    def on_step_end(self, **_: Any) -> None:
        """Check and log if it is time; Tune calls this after each event."""
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self._check()
            _log.info("%s", progress_line(self._follower.look()))
            self._said = time.monotonic()


def _tune_storage(results: Results) -> dict[str, Any]:
    """Return where Tune keeps its files; each node opens an object store with its own credentials."""
    if not storage.is_remote(results.folder):
        return {"storage_path": results.folder}
    filesystem, path = storage.resolve(results.folder)
    return {"storage_path": path, "storage_filesystem": filesystem}


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
