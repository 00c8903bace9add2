"""One run of Ray Tune: a searcher's trials, in actors that are used again, until the searcher has no more."""

import os
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from renalnet import storage
from renalnet.data.cohort import load_cohort
from renalnet.data.store import Store
from study.config import Slots, StudyConfig
from study.trainable import Trial


def fit(
    searcher: Searcher, scheduler: TrialScheduler, config: StudyConfig, results: str, store: Store, slots: Slots
) -> None:
    """Run every trial that the searcher suggests.

    Args:
        searcher: names trials and hears how they end.
        scheduler: decides after each epoch whether a trial goes on.
        config: the whole study.
        results: the results folder.
        store: whose patients the trials learn from.
        slots: what a trial occupies, and how many there may be at once.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's tables cut trials off; the searcher logs each one's end
    describe = {"roi": store.manifest.config.model_dump(mode="json"), "data": store.fingerprint}
    load_cohort(store, config.train.loader).close()  # what does not fit is refused here, not by every trial
    trial = tune.with_parameters(Trial, store=store, results=results, describe=describe)
    tune.Tuner(
        tune.with_resources(trial, {"cpu": slots.cpus, "gpu": slots.gpus}),
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
            failure_config=tune.FailureConfig(max_failures=config.resources.max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()


def _tune_storage(results: str) -> dict[str, Any]:
    """Where Tune keeps what it writes; each node opens an object store with its own credentials."""
    if not storage.is_remote(results):
        return {"storage_path": results}
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "300")  # each time Tune uploads the files of all trials anew
    filesystem, path = storage.resolve(results)
    return {"storage_path": path, "storage_filesystem": filesystem}


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
