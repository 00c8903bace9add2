"""The records that trials and repeats leave in their folders, and the two tables made of them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar, get_args

from renalnet.config import KIDNEY_TUMOR, MAIN_NETWORK, LossConfig, OptimConfig, TrainConfig, label_set
from renalnet.runtime import storage
from renalnet.train.epochs import LOG_FILE, EpochRecord, best_of
from study.records.files import damaged, read_lines, read_object
from study.records.names import fold_repeat_name, seed_repeat_name, trial_name
from study.records.parquet import write_rows
from study.records.results import Results
from study.records.tables import Epoch, Trial

State = Literal["running", "paused", "complete", "pruned", "failed"]
UNFINISHED: Final[tuple[State, ...]] = ("running", "paused")
"""States of a trial that has not ended."""
Read = TypeVar("Read")
_NUM_READERS: Final = 16
"""Files that are requested at once: an object store answers 16 requests about as fast as one."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial or a repeat: what it runs, and how it ended. It is kept as `trial.json`."""

    trial: int
    """Number of the trial within its network, from 0; 0 runs the values of `train`, by default the paper's."""
    network: str
    """Key of the network."""
    state: State
    """How it ended, or `running`, or `paused` where it left its slot and may go on later."""
    point: dict[str, Any]
    """Values of the searched parameters."""
    train: dict[str, Any]
    """The training configuration."""
    reason: str = ""
    """Why it ended."""
    cpus: float = 0.0
    """Processors of its slot."""
    gpus: float = 0.0
    """GPUs of its slot; 0 where they are fake."""
    # Records of versions without repeats lack this field and the two below.
    repeat_of: str = ""
    """Name of the finalist that is repeated; empty for a trial of the search."""
    fold: int | None = None
    """Fold of which the cases are validated on, from 0; None for a run on the store's own splits."""
    num_folds: int = 0
    """Number of folds; 0 for a run on the store's own splits."""

    @classmethod
    def from_json(cls, path: str, values: Mapping[str, Any]) -> "TrialRecord":
        """Return the record in the file `path`. Raises ResultsError where a field is missing or has another type."""
        try:
            record = cls(**values)
        except TypeError as error:
            raise damaged(path, f"not the record of a trial: {error}") from error
        wrong = [name for name, kinds in _FIELD_TYPES.items() if not isinstance(getattr(record, name), kinds)]
        wrong += [f"train.{name}" for name in ("epochs", "seed", "loss", "optim") if name not in (record.train or ())]
        if wrong or record.state not in get_args(State):
            raise damaged(path, f"not the record of a trial: {', '.join(wrong) or 'state'} is missing or wrong")
        return record

    @property
    def name(self) -> str:
        """Name of its folder: `fcn_ppm-0003`, or `fcn_ppm-0003-seed-1` or `fcn_ppm-0003-fold-0-of-5` for a repeat."""
        if self.fold is not None:
            return fold_repeat_name(self.repeat_of, self.fold, self.num_folds)
        if self.repeat_of:
            return seed_repeat_name(self.repeat_of, self.seed)
        return trial_name(self.network, self.trial)

    @property
    def has_ended(self) -> bool:
        """Whether it neither runs nor is paused."""
        return self.state not in UNFINISHED

    @property
    def seed(self) -> int:
        """Seed of the run; on a fold also the seed by which cases are dealt to folds."""
        return int(self.train["seed"])

    def ended(self, state: State, reason: str) -> "TrialRecord":
        """Return the record with its end, or with the reason of its pause."""
        return replace(self, state=state, reason=reason)


_FIELD_TYPES: Final[Mapping[str, Any]] = {
    "trial": int,
    "network": str,
    "state": str,
    "point": dict,
    "train": dict,
    "reason": str,
    "cpus": int | float,
    "gpus": int | float,
    "repeat_of": str,
    "fold": int | None,
    "num_folds": int,
}


def write_record(results: Results, record: TrialRecord) -> None:
    """Write a record into the trial's folder, whole or not at all."""
    storage.write_json(results.trial_record_path(record.name), asdict(record))


def read_records(results: Results) -> list[TrialRecord]:
    """Read the records of the search's trials, by network and number, without the repeats of finalists."""
    return [record for record in read_all_records(results) if not record.repeat_of]


def read_all_records(results: Results) -> list[TrialRecord]:
    """Read the records of the search's trials and of finalists' repeats, by name."""
    return [record for record in _map(partial(find_record, results), _trial_names(results)) if record]


def find_record(results: Results, name: str) -> TrialRecord | None:
    """Read a trial's record; None where the trial has not started. Raises ResultsError where it is damaged."""
    path = results.trial_record_path(name)
    try:
        return TrialRecord.from_json(path, read_object(path))
    except FileNotFoundError:
        return None


def read_epochs(results: Results, name: str) -> list[EpochRecord]:
    """Read the epochs that a trial has finished; empty where it has not finished one.

    Raises:
        ResultsError: the log is damaged.
    """
    path = storage.join(results.trial_folder(name), LOG_FILE)
    try:
        epochs = [EpochRecord.from_json(values) for values in read_lines(path)]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError) as error:
        raise damaged(path, f"a line is no epoch: {error}") from error
    if not all(_is_epoch(epoch, number) for number, epoch in enumerate(epochs, start=1)):
        raise damaged(path, "an epoch is missing, or a value of it is no number")
    return epochs


def _is_epoch(epoch: EpochRecord, number: int) -> bool:
    numbers = (epoch.loss, epoch.objective, epoch.learning_rate, epoch.seconds, *epoch.dice.values())
    return epoch.epoch == number and all(isinstance(value, int | float) for value in numbers)


def read_curves(results: Results, records: Iterable[TrialRecord]) -> dict[str, list[EpochRecord]]:
    """Read the epochs of many trials at once; return them by the trial's name."""
    names = [record.name for record in records]
    return dict(zip(names, _map(partial(read_epochs, results), names), strict=True))


def survives(epochs: Sequence[EpochRecord]) -> bool:
    """Whether a trial's network may be used: it has finished an epoch, and none of its epochs failed."""
    # A look at the last epoch suffices, because a run ends with the epoch that fails.
    return bool(epochs) and not epochs[-1].failure


def write_tables(results: Results) -> None:
    """Write `trials.parquet` and `curves.parquet` from the current records."""
    Tables(results).write()


class Tables:
    """Writer of `trials.parquet` and `curves.parquet` for repeated use: the record of an ended trial is read once."""

    def __init__(self, results: Results) -> None:
        """Read nothing yet."""
        self._results = results
        self._ended: dict[str, tuple[TrialRecord, list[EpochRecord]]] = {}

    def write(self) -> None:
        """Write both tables from the current records."""
        trials = self._read()
        # A failed epoch has a Dice of 0 for the searcher, which a curve would show as a measurement.
        curves = [epoch_row(record, epoch) for record, epochs in trials for epoch in epochs if not epoch.failure]
        write_rows(self._results.trials_path, [trial_row(*trial) for trial in trials])
        write_rows(self._results.curves_path, curves)

    def _read(self) -> list[tuple[TrialRecord, list[EpochRecord]]]:
        """Return every trial with its epochs, by network and number."""
        # Records of running trials are read again each time, which keeps the cost independent of the ended ones.
        names = _trial_names(self._results)
        read = partial(find_record, self._results)
        records = [record for record in _map(read, [name for name in names if name not in self._ended]) if record]
        epochs = read_curves(self._results, records)
        known = self._ended | {record.name: (record, epochs[record.name]) for record in records}
        self._ended = {name: trial for name, trial in known.items() if trial[0].has_ended}
        return [known[name] for name in names if name in known]


def trial_row(record: TrialRecord, epochs: list[EpochRecord]) -> Trial:
    """Return the row of a trial in `trials.parquet`."""
    best = best_of(epochs)
    hours = sum(epoch.seconds for epoch in epochs) / 3600
    loss = record.train["loss"]
    labels = label_set(record.train.get("labels", KIDNEY_TUMOR))
    return Trial(
        trial=record.trial,
        name=record.name,
        network=record.network,
        state=record.state,
        objective=best.objective if best else None,
        dice=dict(best.dice) if best else dict.fromkeys(labels.names),
        best_epoch=best.epoch if best else None,
        epochs=len(epochs),
        planned_epochs=record.train["epochs"],
        seconds=hours * 3600,
        gpu_hours=hours * record.gpus,
        cpu_hours=hours * record.cpus,
        reason=record.reason,
        is_paper_point=is_paper_point(record.trial, record.train),
        ppm_kernels=record.point.get("ppm_kernels", ""),
        # From the last label to background, the order of the columns in files of earlier versions.
        weights={name: loss[name] for name in reversed(labels.class_names)},
        milestones="-".join(map(str, record.train["optim"]["milestones"])),
        config=json.dumps(record.train),
        repeat_of=record.repeat_of,
        seed=record.seed,
        fold=record.fold,
    )


def epoch_row(record: TrialRecord, epoch: EpochRecord) -> Epoch:
    """Return the row of an epoch in `curves.parquet`."""
    return Epoch(
        trial=record.trial,
        name=record.name,
        network=record.network,
        repeat_of=record.repeat_of,
        seed=record.seed,
        fold=record.fold,
        epoch=epoch.epoch,
        loss=epoch.loss,
        dice=dict(epoch.dice),
        objective=epoch.objective,
        learning_rate=epoch.learning_rate,
        seconds=epoch.seconds,
        data_wait_share=epoch.data_wait_share,
        voxels_per_s=epoch.voxels_per_s,
    )


def is_paper_point(number: int, train: Mapping[str, Any]) -> bool:
    """Whether it is a first trial with the paper's weights and milestones; a study may start from other values.

    Args:
        number: number of the trial within its network.
        train: its training configuration as JSON.
    """
    if number or "loss" not in train:
        return False
    milestones = tuple(train["optim"]["milestones"])  # a list in JSON
    # The whole section, because another loss with the paper's weights is not the paper's loss.
    return LossConfig(**train["loss"]) == TrainConfig().loss and milestones == OptimConfig().milestones


def is_reference(record: TrialRecord) -> bool:
    """Whether it is the trial of 3D_FCN_PPM with the paper's values, with which the winner is compared.

    It is trained to its end, keeps its weights, and is a finalist whatever its objective.
    """
    return record.network == MAIN_NETWORK and is_paper_point(record.trial, record.train)


def _trial_names(results: Results) -> list[str]:
    """Return the names of the trials' folders, without any files beside them."""
    return [name for name, size in storage.list_sizes(results.trials_folder).items() if size is None]


def _map(read: Callable[[str], Read], names: Iterable[str]) -> list[Read]:
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        return list(pool.map(read, names))
