"""A trial in a real actor of a real local Ray."""

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import tune

from renalnet.config import TrainConfig
from renalnet.data.store.reader import Store
from renalnet.train.checkpoint import load_checkpoint
from study.execution.trainable import Trial
from study.records.results import Results


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")  # Ray's own
def test_a_trial_that_is_terminated_writes_a_checkpoint_first(
    local_ray: None, tiny_train: TrainConfig, ball_store: Store, tmp_path: Path
) -> None:
    train = tiny_train.model_copy(update={"epochs": 1, "steps_per_epoch": 1000, "checkpoint_every_s": 1e9})
    config = {"name": "fcn_ppm-0000", "train": train.model_dump(mode="json")}
    trial = tune.with_parameters(Trial, store=ball_store, results=Results(str(tmp_path)), describe={})

    class Told(trial):  # type: ignore[misc, valid-type]
        """A trial that tells its process; resources are set here, because Tune does not run it."""

        trial_resources = tune.PlacementGroupFactory([{"CPU": 1}])

        def process(self) -> int:
            return os.getpid()

    actor = ray.remote(num_cpus=1)(Told).remote(config)
    process = ray.get(actor.process.remote())
    step = actor.train.remote()
    time.sleep(2)  # some steps, of which nothing is written
    assert load_checkpoint(Results(str(tmp_path)).trial_folder("fcn_ppm-0000")) is None
    os.kill(process, signal.SIGTERM)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(step)
    found = load_checkpoint(Results(str(tmp_path)).trial_folder("fcn_ppm-0000"))
    assert found is not None and 0 < found.step < 1000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")  # Ray's own
def test_a_trial_that_cannot_write_reports_it_and_goes_on_later(
    local_ray: None, tiny_train: TrainConfig, ball_store: Store, tmp_path: Path
) -> None:
    """The errors are raised where a file is written: a disk in such a state cannot be made without being root."""
    config = {"name": "fcn_ppm-0000", "train": tiny_train.model_dump(mode="json")}
    trial = tune.with_parameters(Trial, store=ball_store, results=Results(str(tmp_path)), describe={})

    class Limited(trial):  # type: ignore[misc, valid-type]
        """A trial whose disk has a fault; resources are set here, because Tune does not run it."""

        trial_resources = tune.PlacementGroupFactory([{"CPU": 1}])

        def train_with(self, number: int) -> dict[str, object]:
            def refuse(descriptor: int) -> None:
                raise OSError(number, os.strerror(number))

            sync, os.fsync = os.fsync, refuse
            try:
                return dict(self.train())
            finally:
                os.fsync = sync

    actor = ray.remote(num_cpus=1)(Limited).remote(config)
    folder = f"{tmp_path}/trials/fcn_ppm-0000"
    remedies = {
        errno.ENOSPC: "make room, or raise the quota",
        errno.EDQUOT: "make room, or raise the quota",
        errno.EROFS: "mount it for writing",
        errno.EIO: "check or replace the disk",
    }
    for number, remedy in remedies.items():
        result = ray.get(actor.train_with.remote(number))
        assert (result["epoch"], result["done"]) == (0, False)
        start = f"fcn_ppm-0000 on {socket.gethostname()}: what is finished is kept, but the trial cannot go on: "
        assert result["fault"].startswith(f"{start}[Errno {number}] {os.strerror(number)}: '{folder}/"), result["fault"]
        assert result["fault"].endswith(f"'; {remedy}, then repeat the command to go on")
        # Only what is on disk counts: a new process begins there.
        ray.get(actor.reset.remote(config))
    with pytest.raises(ray.exceptions.RayTaskError, match="Bad address"):
        ray.get(actor.train_with.remote(errno.EFAULT))
    ray.get(actor.reset.remote(config))
    assert ray.get(actor.train.remote())["epoch"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")  # Ray's own
def test_an_actor_changes_its_patients_with_the_fold_only(
    local_ray: None, tiny_train: TrainConfig, ball_store: Store, tmp_path: Path
) -> None:
    train = tiny_train.model_dump(mode="json")
    trial = tune.with_parameters(Trial, store=ball_store, results=Results(str(tmp_path)), describe={})

    class Told(trial):  # type: ignore[misc, valid-type]
        """A trial that tells its cases; resources are set here, because Tune does not run it."""

        trial_resources = tune.PlacementGroupFactory([{"CPU": 1}])

        def become(self, name: str, about: dict[str, int]) -> tuple[int, str]:
            self.reset_config({"name": name, "train": train, **about})
            return id(self._cohort), self._cohort.fingerprint

    actor = ray.remote(num_cpus=1)(Told).remote({"name": "first", "train": train})
    folds = [{}, {"fold": 0, "num_folds": 3}, {"fold": 0, "num_folds": 3}, {"fold": 1, "num_folds": 3}, {}]
    told = [ray.get(actor.become.remote(f"trial-{number}", fold)) for number, fold in enumerate(folds)]
    whole = ball_store.fingerprint
    assert [fingerprint for _, fingerprint in told] == [
        whole,
        f"{whole}-fold-0-of-3-seed-0",
        f"{whole}-fold-0-of-3-seed-0",
        f"{whole}-fold-1-of-3-seed-0",
        whole,
    ]
    assert told[1] == told[2]
    ray.get(actor.train.remote())
