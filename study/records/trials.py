"""The records that trials leave behind, and the two tables made of them."""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.config import LossConfig, OptimConfig
from renalnet.runtime import storage
from renalnet.train.epochs import LOG_FILE, EpochRecord, best_of
from study.records import paths

State = Literal["running", "complete", "pruned", "failed"]
Read = TypeVar("Read")
_NUM_READERS: Final = 16
"""Files asked for at once: an object store answers many as quickly as one."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what it runs, and how it ended."""

    trial: int
    """Number within its network, from 0; 0 is the paper's point."""
    network: str
    state: State
    point: dict[str, Any]
    """Searched values."""
    train: dict[str, Any]
    """The whole training configuration."""
    reason: str = ""
    """Why it ended."""
    cpus: float = 0.0
    gpus: float = 0.0
    repeat_of: str = ""
    """The finalist that is run again here, with another seed or on a fold; empty for a trial of the search."""
    fold: int | None = None
    """Of a run on a fold: which one is validated on, from 0."""
    num_folds: int = 0
    """Of a run on a fold: into how many the patients are dealt."""

    @property
    def name(self) -> str:
        """`fcn_ppm-0003`; of a repeat `fcn_ppm-0003-seed-1` or `fcn_ppm-0003-fold-0-of-5`."""
        if self.fold is not None:
            return paths.fold_repeat_name(self.repeat_of, self.fold, self.num_folds)
        if self.repeat_of:
            return paths.seed_repeat_name(self.repeat_of, self.seed)
        return paths.trial_name(self.network, self.trial)

    @property
    def seed(self) -> int:
        """Of the run; a fold's is that of the deal, too."""
        return int(self.train["seed"])

    def ended(self, state: State, reason: str) -> "TrialRecord":
        """The record with its end."""
        return replace(self, state=state, reason=reason)


def write_record(results: str, record: TrialRecord) -> None:
    """Keep a trial's record in its folder, whole or not at all."""
    storage.write_json(storage.join(paths.trial_folder(results, record.name), paths.TRIAL_RECORD), asdict(record))


def read_records(results: str) -> list[TrialRecord]:
    """The records of the search's trials, by network and number; finalists' repeats are no trials of the search."""
    return [record for record in read_all_records(results) if not record.repeat_of]


def read_all_records(results: str) -> list[TrialRecord]:
    """The records of the search's trials and of finalists' repeats, by name."""
    return [record for record in _each(partial(find_record, results), _trial_names(results)) if record]


def find_record(results: str, name: str) -> TrialRecord | None:
    """A trial's record; none where it has not started."""
    try:
        return TrialRecord(**storage.read_json(storage.join(paths.trial_folder(results, name), paths.TRIAL_RECORD)))
    except FileNotFoundError:
        return None


def read_epochs(results: str, name: str) -> list[EpochRecord]:
    """The epochs that a trial has finished; none where it has not finished one."""
    try:
        lines = storage.read_bytes(storage.join(paths.trial_folder(results, name), LOG_FILE)).splitlines()
    except FileNotFoundError:
        return []
    return [EpochRecord(**json.loads(line)) for line in lines]


def read_curves(results: str, records: Iterable[TrialRecord]) -> dict[str, list[EpochRecord]]:
    """`read_epochs` of many trials, by name, at the pace of an object store that is asked many things at once."""
    names = [record.name for record in records]
    return dict(zip(names, _each(partial(read_epochs, results), names), strict=True))


def survives(epochs: Sequence[EpochRecord]) -> bool:
    """Whether a trial's network may be used: it has finished an epoch, and none of them failed."""
    return bool(epochs) and not epochs[-1].failure


def write_tables(results: str) -> None:
    """Write `trials.parquet` and `curves.parquet` from the records as they stand."""
    Tables(results).write()


class Tables:
    """The two tables of a results folder, for one who writes them again and again: an ended trial is read once."""

    def __init__(self, results: str) -> None:
        """Nothing is read yet."""
        self._results = results
        self._ended: dict[str, tuple[TrialRecord, list[EpochRecord]]] = {}

    def write(self) -> None:
        """Write both from the records as they stand."""
        trials = self._read()
        curves = [_curve_row(record, epoch) for record, epochs in trials for epoch in epochs if not epoch.failure]
        write_parquet(storage.join(self._results, paths.TRIALS_TABLE), [_trial_row(*trial) for trial in trials])
        write_parquet(storage.join(self._results, paths.CURVES_TABLE), curves)

    def _read(self) -> list[tuple[TrialRecord, list[EpochRecord]]]:
        """Every trial with its epochs, by network and number."""
        names = _trial_names(self._results)
        read = partial(find_record, self._results)
        records = [record for record in _each(read, [name for name in names if name not in self._ended]) if record]
        epochs = read_curves(self._results, records)
        known = self._ended | {record.name: (record, epochs[record.name]) for record in records}
        self._ended = {name: trial for name, trial in known.items() if trial[0].state != "running"}
        return [known[name] for name in names if name in known]


def write_parquet(path: str, rows: list[dict[str, Any]]) -> None:
    """Write rows as a Parquet file, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    storage.write_bytes(path, sink.getvalue().to_pybytes())


def read_parquet(path: str) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(storage.read_bytes(path))).to_pylist()
    return rows


def _trial_names(results: str) -> list[str]:
    """Folders of trials; a stray file among them is none."""
    return [name for name, size in storage.list_sizes(storage.join(results, "trials")).items() if size is None]


def _each(read: Callable[[str], Read], names: Iterable[str]) -> list[Read]:
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        return list(pool.map(read, names))


def _trial_row(record: TrialRecord, epochs: list[EpochRecord]) -> dict[str, Any]:
    best = best_of(epochs)
    hours = sum(epoch.seconds for epoch in epochs) / 3600
    loss = record.train["loss"]
    return {
        "trial": record.trial,
        "name": record.name,
        "network": record.network,
        "state": record.state,
        "objective": best.objective if best else None,
        "dice_kidney": best.dice_kidney if best else None,
        "dice_tumor": best.dice_tumor if best else None,
        "best_epoch": best.epoch if best else None,
        "epochs": len(epochs),
        "planned_epochs": record.train["epochs"],
        "seconds": hours * 3600,
        "gpu_hours": hours * record.gpus,
        "cpu_hours": hours * record.cpus,
        "reason": record.reason,
        "is_paper_point": _is_paper_point(record),
        "ppm_kernels": record.point.get("ppm_kernels", ""),
        "weight_tumor": loss["tumor"],
        "weight_kidney": loss["kidney"],
        "weight_background": loss["background"],
        "milestones": "-".join(map(str, record.train["optim"]["milestones"])),
        "config": json.dumps(record.train),
        **_about_repeat(record),
    }


def _about_repeat(record: TrialRecord) -> dict[str, Any]:
    """Columns of both tables: empty `repeat_of` for a trial of the search, null `fold` where it is no fold's run."""
    return {"repeat_of": record.repeat_of, "seed": record.seed, "fold": record.fold}


def _is_paper_point(record: TrialRecord) -> bool:
    """Whether a study's first trial has the paper's weights and steps; a study may start from others."""
    loss, milestones = LossConfig(**record.train["loss"]), tuple(record.train["optim"]["milestones"])
    return record.trial == 0 and loss == LossConfig() and milestones == OptimConfig().milestones


def _curve_row(record: TrialRecord, epoch: EpochRecord) -> dict[str, Any]:
    values = asdict(epoch)
    del values["failure"]
    about = {"trial": record.trial, "name": record.name, "network": record.network, **_about_repeat(record)}
    return {**about, **values}
