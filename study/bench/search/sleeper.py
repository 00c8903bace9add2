"""A trial that sleeps instead of training, and leaves the files of a trial: its log, and weights of a given size."""

import time
from typing import Any, Final

import torch
from ray import tune

from renalnet.config import KIDNEY_TUMOR, Normalisation, TrainConfig
from renalnet.nets.bundle import BundleConfig, save_model
from renalnet.train.checkpoint import Checkpoint, save_checkpoint
from renalnet.train.epochs import EpochRecord, write_log
from study.records.results import Results
from study.search.pruner import BEST, FAILURE, OBJECTIVE

_CONFIG: Final = BundleConfig(train=TrainConfig(), normalisation=Normalisation(-200, 500, 0.3))
"""A configuration beside weights that no network reads."""


class Sleeper(tune.Trainable):
    """Sleeps one epoch per call of `step`; the objective that it reports grows with the tumor's weight."""

    def setup(self, config: dict[str, Any], *, results: Results, seconds: float, weights_kb: int) -> None:
        """Become the first trial.

        Args:
            config: configuration of the trial, as a searcher suggests it.
            results: the results folder.
            seconds: duration of a whole trial.
            weights_kb: size of the model that each epoch writes, in KiB; 0 to write none.
        """
        self._results = results
        self._seconds = seconds
        self._weights_kb = weights_kb
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become the next trial."""
        self._name = new_config["name"]
        self._epochs = new_config["train"]["epochs"]
        self._value = new_config["tumor_weight"] / 10
        self._records: list[EpochRecord] = []
        return True

    def step(self) -> dict[str, Any]:
        """Sleep one epoch and report it."""
        time.sleep(self._seconds / self._epochs)
        epoch = len(self._records) + 1
        value = self._value * epoch / self._epochs
        dice = dict.fromkeys(KIDNEY_TUMOR.names, value)
        self._records.append(EpochRecord(epoch, 1.0, dice, value, 0.1, self._seconds / self._epochs))
        self._write(epoch)
        return {"epoch": epoch, OBJECTIVE: value, BEST: value, FAILURE: "", "done": epoch == self._epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Give Ray nothing."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Take nothing from Ray."""

    def _write(self, epoch: int) -> None:
        folder = self._results.trial_folder(self._name)
        if self._weights_kb:
            weights = {"weights": torch.zeros(256 * self._weights_kb)}  # 256 numbers of 4 bytes are a KiB
            save_checkpoint(folder, Checkpoint(epoch, weights, {}))
            save_model(folder, weights, _CONFIG)
        write_log(folder, self._records)
