"""What a run reports of its epochs, and their log in its folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from renalnet.runtime import storage

LOG_FILE = "epochs.jsonl"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch reports. Every value is finite."""

    epoch: int
    """From 1."""
    loss: float
    """Mean weighted cross-entropy of the epoch's steps."""
    dice_kidney: float
    """Mean over validation patients, by stitched inference without post-processing."""
    dice_tumor: float
    """As `dice_kidney`."""
    objective: float
    """Mean of the two; what the search maximises."""
    learning_rate: float
    """Of this epoch."""
    seconds: float
    """Training and validation of this epoch, without what an interruption lost."""
    failure: str = ""
    """Why the run ends here, where it cannot go on; empty otherwise."""
    data_wait_share: float = 0.0
    """Part of the time of the epoch's training steps that was spent waiting for batches, 0-1; 0 in a record of before
    it was measured."""
    voxels_per_s: float = 0.0
    """Voxels of crops trained on a second, waiting and checkpoints counted; 0 in a record of before it was measured."""


@dataclass
class PartialEpoch:
    """How far an epoch has come: all that its record is made of."""

    steps: int = 0
    """Optimiser steps whose loss is known to be finite."""
    loss_sum: float = 0.0
    """Added up step by step, so that an interrupted epoch's mean is the undisturbed one's, bit for bit."""
    trained_s: float = 0.0
    """Time of the training steps."""
    waited_s: float = 0.0
    """Part of it that was spent waiting for batches."""
    validated_s: float = 0.0
    """Time of the validation."""
    scores: list[tuple[float, float]] = field(default_factory=list)
    """Dice of kidney and tumor of the validation patients so far."""

    def add(self, loss: float) -> None:
        """Count a step."""
        self.steps += 1
        self.loss_sum += loss

    def ended(self, epoch: int, learning_rate: float, num_voxels: int) -> EpochRecord:
        """The record of an epoch whose steps and validation are done; `num_voxels` a step."""
        kidney, tumor = (sum(values) / len(values) for values in zip(*self.scores, strict=True))
        return EpochRecord(
            epoch=epoch,
            loss=self.loss_sum / self.steps,
            dice_kidney=kidney,
            dice_tumor=tumor,
            objective=(kidney + tumor) / 2,
            learning_rate=learning_rate,
            seconds=self.trained_s + self.validated_s,
            data_wait_share=_share(self.waited_s, self.trained_s),
            voxels_per_s=_share(self.steps * num_voxels, self.trained_s),
        )

    def failed(self, epoch: int, learning_rate: float, reason: str) -> EpochRecord:
        """The record of an epoch that cannot go on: the worst score, so that a search learns from it."""
        wait_share = _share(self.waited_s, self.trained_s)
        return EpochRecord(epoch, 0.0, 0.0, 0.0, 0.0, learning_rate, self.trained_s, reason, wait_share)


def best_of(records: Iterable[EpochRecord]) -> EpochRecord | None:
    """The epoch with the highest objective, the first of equals; none before an epoch has ended well."""
    ended = [record for record in records if not record.failure]
    return max(ended, key=lambda record: record.objective, default=None)


def write_log(folder: str, records: Sequence[EpochRecord]) -> None:
    """Write a line of JSON an epoch, all of them anew: whole or not at all."""
    lines = "".join(f"{storage.json_line(asdict(entry))}\n" for entry in records)
    storage.write_bytes(storage.join(folder, LOG_FILE), lines.encode())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
