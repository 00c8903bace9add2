"""Records of the epochs of a run, and their log in its folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from renalnet.config import LabelSet
from renalnet.runtime import storage

LOG_FILE = "epochs.jsonl"
DICE: Final = "dice_"
"""Beginning of the keys that hold the Dice of a label."""


@dataclass(frozen=True)
class EpochRecord:
    """Results of one epoch. Every value is finite."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean loss of the epoch's steps."""
    dice: dict[str, float]
    """Mean Dice of each label over the validation cases, by stitched inference without post-processing, 0-1."""
    objective: float
    """Mean of `dice` over the labels; the search maximises it."""
    learning_rate: float
    """Learning rate of this epoch."""
    seconds: float
    """Time of training and validation, without work that an interruption lost."""
    failure: str = ""
    """Reason why the run cannot continue; empty otherwise."""
    data_wait_share: float = 0.0
    """Share of the training time that was spent waiting for batches, 0-1. It is 0 in records of older versions."""
    voxels_per_s: float = 0.0
    """Voxels of crops per second of training, including waits and checkpoints. It is 0 in records of older versions."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with a key for the Dice of each label, such as `dice_tumor`."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            values |= {DICE + label: dice for label, dice in value.items()} if name == "dice" else {name: value}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EpochRecord":
        """Return the record that `to_json` wrote. Raises KeyError or TypeError for other values."""
        dice = {name.removeprefix(DICE): value for name, value in values.items() if name.startswith(DICE)}
        return cls(**{name: value for name, value in values.items() if not name.startswith(DICE)}, dice=dice)


@dataclass
class PartialEpoch:
    """Progress of an epoch: everything from which its record is made."""

    steps: int = 0
    """Number of steps whose loss is known to be finite."""
    loss_sum: float = 0.0
    """Sum of the losses, added step by step: the mean is then bit-identical after an interruption."""
    trained_s: float = 0.0
    """Time of the training steps."""
    waited_s: float = 0.0
    """Part of `trained_s` that was spent waiting for batches."""
    validated_s: float = 0.0
    """Time of the validation."""
    scores: list[tuple[float, ...]] = field(default_factory=list)
    """Dice of each label, by value, of each validation case so far."""

    def add(self, loss: float) -> None:
        """Add a step with its loss."""
        self.steps += 1
        self.loss_sum += loss

    def ended(self, epoch: int, learning_rate: float, num_voxels: int, labels: LabelSet) -> EpochRecord:
        """Return the record of a finished epoch whose steps have `num_voxels` voxels each."""
        means = [sum(values) / len(values) for values in zip(*self.scores, strict=True)]
        return EpochRecord(
            epoch=epoch,
            loss=self.loss_sum / self.steps,
            dice=dict(zip(labels.names, means, strict=True)),
            objective=sum(means) / len(means),
            learning_rate=learning_rate,
            seconds=self.trained_s + self.validated_s,
            data_wait_share=_share(self.waited_s, self.trained_s),
            voxels_per_s=_share(self.steps * num_voxels, self.trained_s),
        )

    def failed(self, labels: LabelSet, epoch: int, learning_rate: float, reason: str) -> EpochRecord:
        """Return the record of an epoch that failed. Its Dice is 0, so that a search avoids its configuration."""
        wait_share = _share(self.waited_s, self.trained_s)
        # Zeros instead of NaN, because every value of a record must be finite.
        dice = dict.fromkeys(labels.names, 0.0)
        return EpochRecord(epoch, 0.0, dice, 0.0, learning_rate, self.trained_s, reason, wait_share)


def best_of(records: Iterable[EpochRecord]) -> EpochRecord | None:
    """Return the epoch with the highest objective, the first of equals; None if no epoch has ended without failure."""
    ended = [record for record in records if not record.failure]
    return max(ended, key=lambda record: record.objective, default=None)


def write_log(folder: str, records: Sequence[EpochRecord]) -> None:
    """Write the log: one line of JSON per epoch. The file is replaced as a whole."""
    storage.write_bytes(storage.join(folder, LOG_FILE), log_content(records))


def log_content(records: Sequence[EpochRecord]) -> bytes:
    """Return the content of the log."""
    return "".join(f"{storage.json_line(entry.to_json())}\n" for entry in records).encode()


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
