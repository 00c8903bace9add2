"""Records of the epochs of a run, and their log in its folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from renalnet.runtime import storage

LOG_FILE = "epochs.jsonl"


@dataclass(frozen=True)
class EpochRecord:
    """Results of one epoch. Every value is finite."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean loss of the epoch's steps."""
    dice_kidney: float
    """Mean Dice over the validation cases, by stitched inference without post-processing, 0-1."""
    dice_tumor: float
    """Mean Dice of the tumor, like `dice_kidney`."""
    objective: float
    """Mean of `dice_kidney` and `dice_tumor`; the search maximises it."""
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
    scores: list[tuple[float, float]] = field(default_factory=list)
    """Dice of kidney and tumor of each validation case so far."""

    def add(self, loss: float) -> None:
        """Add a step with its loss."""
        self.steps += 1
        self.loss_sum += loss

    def ended(self, epoch: int, learning_rate: float, num_voxels: int) -> EpochRecord:
        """Return the record of a finished epoch whose steps have `num_voxels` voxels each."""
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
        """Return the record of an epoch that failed. Its Dice is 0, so that a search avoids its configuration."""
        wait_share = _share(self.waited_s, self.trained_s)
        # Zeros instead of NaN, because every value of a record must be finite.
        return EpochRecord(epoch, 0.0, 0.0, 0.0, 0.0, learning_rate, self.trained_s, reason, wait_share)


def best_of(records: Iterable[EpochRecord]) -> EpochRecord | None:
    """Return the epoch with the highest objective, the first of equals; None if no epoch has ended without failure."""
    ended = [record for record in records if not record.failure]
    return max(ended, key=lambda record: record.objective, default=None)


def write_log(folder: str, records: Sequence[EpochRecord]) -> None:
    """Write the log: one line of JSON per epoch. The file is replaced as a whole."""
    lines = "".join(f"{storage.json_line(asdict(entry))}\n" for entry in records)
    storage.write_bytes(storage.join(folder, LOG_FILE), lines.encode())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
