"""A trial that sleeps instead of training, and leaves what a trial leaves: its epochs, and weights of a given size."""

import time
from typing import Any

import torch
from ray import tune

from renalnet.nets.bundle import save_model
from renalnet.train.checkpoint import Checkpoint, save_checkpoint
from renalnet.train.epochs import EpochRecord, write_log
from study.records import paths
from study.search.searcher import BEST, FAILURE


class Sleeper(tune.Trainable):
    """Sleeps an epoch a step; what it reports grows with the tumor's weight."""

    def setup(self, config: dict[str, Any], *, results: str, seconds: float, weights_kb: int) -> None:
        """Take the trial's configuration.

        Args:
            config: of the trial.
            results: the results folder.
            seconds: of a whole trial.
            weights_kb: of the model that each epoch writes; 0: none.
        """
        self._results, self._seconds, self._weights_kb = results, seconds, weights_kb
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become the next trial."""
        self._name, self._epochs = new_config["name"], new_config["train"]["epochs"]
        self._value = new_config["tumor_weight"] / 10
        self._records: list[EpochRecord] = []
        return True

    def step(self) -> dict[str, Any]:
        """Sleep an epoch."""
        time.sleep(self._seconds / self._epochs)
        epoch = len(self._records) + 1
        value = self._value * epoch / self._epochs
        self._records.append(EpochRecord(epoch, 1.0, value, value, value, 0.1, self._seconds / self._epochs))
        folder = paths.trial_folder(self._results, self._name)
        if self._weights_kb:
            weights = {"weights": torch.zeros(256 * self._weights_kb)}
            save_checkpoint(folder, Checkpoint(epoch, weights, {}))
            save_model(folder, weights, {})
        write_log(folder, self._records)
        values = {"epoch": epoch, "objective": value, BEST: value, FAILURE: ""}
        return {**values, "done": epoch == self._epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing."""
