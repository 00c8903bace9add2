"""One run of Ray Tune: a searcher's trials, in actors that are used again, until the searcher has no more."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import Store
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.config.sections import Slots, StudyConfig
from study.execution.trainable import Trial
from study.progress.progress import StudyFollower, progress_line

LINE_EVERY_S: Final = 60.0
_log = get_logger(__name__)


def fit(
    searcher: Searcher,
    scheduler: TrialScheduler,
    config: StudyConfig,
    results: str,
    store: Store,
    slots: Slots,
    check: Callable[[], None],
) -> None:
    """Train every trial that the searcher suggests.

    Args:
        searcher: names trials and hears how they end.
        scheduler: decides after each epoch whether a trial goes on.
        config: the whole study.
        results: the results folder.
        store: whose patients the trials learn from.
        slots: what a trial occupies, and how many there may be at once.
        check: asked now and then; what it raises ends all trials.
    """
    describe = {"roi": store.manifest.config.model_dump(mode="json"), "data": store.fingerprint}
    load_cohort(store, config.train.loader).close()  # what does not fit is refused here, not by every trial
    trial = tune.with_parameters(Trial, store=store, results=results, describe=describe)
    run_trials(trial, searcher, scheduler, config, results, slots, check)


def run_trials(
    trainable: type,
    searcher: Searcher,
    scheduler: TrialScheduler,
    config: StudyConfig,
    results: str,
    slots: Slots,
    check: Callable[[], None],
) -> None:
    """Run a trainable, whatever it does, at each point that the searcher suggests."""
    max_failures = config.resources.max_failures
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's tables cut trials off; the searcher logs each one's end
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")  # with this snapshot TensorBoard's files reach the results
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=slots.num_slots,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            **_tune_storage(results),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[_Losses(max_failures), _Live(StudyFollower(config, results, slots), check)],
            verbose=0,
        ),
    ).fit()


class _Losses(tune.Callback):
    """A line for each trial that was lost with its process or node and goes on, where Tune prints Ray's traceback."""

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)

    def on_trial_recover(self, *, trial: Any, **_: Any) -> None:
        """Tune starts the trial again."""
        _log.warning(
            "%s lost its process or node, %d of at most %d times; it goes on from its last checkpoint",
            *(_trial_name(trial), trial.num_failures, self._max_failures),
        )


class _Live(tune.Callback):
    """Every `LINE_EVERY_S` a line with the state of the study, if it is still this driver's."""

    def __init__(self, follower: StudyFollower, check: Callable[[], None]) -> None:
        self._follower, self._check, self._said = follower, check, time.monotonic()

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Tune pickles its callbacks with all that they hold, and nobody reads that."""
        return tune.Callback, ()

    def on_step_end(self, **_: Any) -> None:
        """Tune has handled an event."""
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self._check()
            _log.info("%s", progress_line(self._follower.look()))
            self._said = time.monotonic()


def _tune_storage(results: str) -> dict[str, Any]:
    """Where Tune keeps what it writes; each node opens an object store with its own credentials."""
    if not storage.is_remote(results):
        return {"storage_path": results}
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "300")  # each time Tune uploads the files of all trials anew
    filesystem, path = storage.resolve(results)
    return {"storage_path": path, "storage_filesystem": filesystem}


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
