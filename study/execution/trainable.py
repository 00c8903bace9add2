"""A trial: renalnet's training run, one epoch per call, in an actor that Ray Tune reuses for the next trial.

Every epoch is reported once. A trial that goes on first reports the epochs on disk of which the searcher does not know.
Otherwise a trial could pass a rung without being judged, because its driver died in between.

The checkpoints of a trial are the run's own, in the trial's folder of the results. A trial goes on from them when it is
started again, by Ray after a lost node or by a new driver after a lost one. Where Ray ends the process with SIGTERM, as
when it drains a node, the run first writes a checkpoint; Ray leaves a few seconds for that.
"""

import math
import signal
import socket
from collections.abc import Callable, Iterator
from itertools import chain
from types import FrameType
from typing import Any, Final, TypeVar

import torch
from ray import tune

from renalnet.config import TrainConfig, parse
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.batches.folds import Fold
from renalnet.data.store.reader import Store
from renalnet.runtime import log, storage
from renalnet.runtime.machine import keep_memory, num_threads
from renalnet.train.epochs import EpochRecord, best_of
from renalnet.train.run import TrainingRun
from study.records.results import Results
from study.search.pruner import BEST, FAILURE, FAULT, HEARD, OBJECTIVE

Done = TypeVar("Done")
_NO_EPOCH: Final = {"epoch": 0, OBJECTIVE: 0.0, BEST: 0.0, FAILURE: "", "done": False}
"""What Tune and the scheduler read of a result, for one that is not judged: epoch 0 comes before the first one."""


class Trial(tune.Trainable):
    """Trains one epoch per call of `step`, and reports finite numbers under the same keys each time."""

    def setup(self, config: dict[str, Any], *, store: Store, results: Results, describe: dict[str, Any]) -> None:
        """Open the decoded cases, one copy per node, and start or resume the trial's run.

        Args:
            config: configuration of the trial, as a searcher suggests it.
            store: store with the cases.
            results: the results folder.
            describe: what the model bundle says about the data.
        """
        log.configure()
        keep_memory()
        cpus = math.ceil(self.trial_resources.required_resources.get("CPU", 1))
        torch.set_num_threads(min(num_threads(), cpus))  # a node may have fewer cores than Ray was told
        # Before the handler, which reads both flags.
        self._is_stepping = False
        self._is_to_leave = False
        # Ray sets a handler of its own, which `_leave` calls after the checkpoint.
        self._end_of_ray = signal.signal(signal.SIGTERM, self._on_sigterm)
        self._store = store
        self._results = results
        self._describe = describe
        self._fold = _fold(config)
        self._cohort = load_cohort(store, _train_config(config).loader, self._fold)
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become the next trial in the same process; the cases change only with the fold."""
        if _fold(new_config) != self._fold:
            self._fold = _fold(new_config)
            before = self._cohort
            self._cohort = load_cohort(self._store, _train_config(new_config).loader, self._fold)
            # Closed after the next one is open: folds share a node's copy, which is deleted with its last user.
            before.close()
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Report the next epoch, trained now or before; a run without a next epoch reports its last one again.

        Where the run cannot write, report the fault of the disk instead. An exception would be a failure of the trial,
        which Tune repeats at once.
        """
        report = None if self._fault else self._noting_faults(self._next_report)
        return report or {**_NO_EPOCH, FAULT: self._fault}

    def _next_report(self) -> dict[str, Any]:
        self._is_stepping = True
        try:
            record = next(self._epochs, None)
        finally:
            self._is_stepping = False
        if self._is_to_leave:
            self._leave()
        records = self._run.records
        record = record or records[-1]
        # Up to this epoch only: an epoch that is reported late is judged by what was reached then.
        best = best_of(records[: record.epoch])
        reached = best.objective if best else 0.0
        # A finished run may still have epochs to report.
        is_last = self._run.is_finished and record is records[-1]
        return {**record.to_json(), FAILURE: record.failure, BEST: reached, "done": is_last}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Give Ray nothing: the run has written its own checkpoint."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Take nothing from Ray: the run has found its own checkpoint."""

    def cleanup(self) -> None:
        """Close the node's copy of the cases, which is deleted with its last user."""
        self._cohort.close()

    def _start(self, config: dict[str, Any]) -> None:
        self._config = config
        self._fault = ""
        self._noting_faults(self._open)

    def _open(self) -> None:
        self._run = TrainingRun(
            _train_config(self._config),
            self._cohort,
            self._results.trial_folder(self._config["name"]),
            describe=self._describe | ({"fold": str(self._fold)} if self._fold else {}),
            should_stop=lambda: self._is_to_leave,
        )
        unheard = self._run.records[self._config.get(HEARD, 0) :]
        self._epochs: Iterator[EpochRecord] = chain(unheard, self._run)

    def _noting_faults(self, act: Callable[[], Done]) -> Done | None:
        """Return what `act` returns; None where the disk cannot be written, which the next report then states."""
        try:
            return act()
        except OSError as error:
            fault = storage.disk_fault(error)
            if not fault:
                raise
            where = f"{self._config['name']} on {socket.gethostname()}"
            self._fault = f"{where}: what is finished is kept, but the trial cannot go on: {fault}"
            return None

    def _on_sigterm(self, _: int, __: FrameType | None) -> None:
        self._is_to_leave = True
        # During a step, the run sees the flag, writes a checkpoint and returns.
        if not self._is_stepping:
            self._leave()

    def _leave(self) -> None:
        """End the process as Ray's own handler would have."""
        # Not callable if Ray has set no handler: `signal.signal` then returned a constant or None.
        if callable(self._end_of_ray):
            self._end_of_ray(signal.SIGTERM, None)
        # The exit code that shells give a process which a signal ended.
        raise SystemExit(128 + signal.SIGTERM)


def _fold(config: dict[str, Any]) -> Fold | None:
    """Return the fold of a finalist's repeat; None for a run on the store's own splits."""
    number = config.get("fold")
    return None if number is None else Fold(number, config["num_folds"], config["train"]["seed"])


def _train_config(config: dict[str, Any]) -> TrainConfig:
    return parse(TrainConfig, config["train"], config["name"])
