"""Benchmark of the loader beside MONAI and TorchIO, which all yield the same tensors from the same ROIs.

Our loader reads a store. The peers read uncompressed arrays, the fastest input for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from renalnet.data.batches.cohort import copy_name
from renalnet.data.batches.node_folder import private_home
from renalnet.data.store.reader import Store
from study.bench.data.library_loaders import LOADERS, Job
from study.bench.data.loader_processes import measure, memory_mb
from study.bench.measuring.processes import available_mb, is_installed
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import RoiPainter, write_rois
from study.bench.measuring.table import Row

OURS: Final = "renalnet"
NUM_TRIALS: Final = 4
"""Number of processes on one node in the rows about memory."""
_WORKERS: Final = {OURS: (0, 1)}
_PEER_WORKERS: Final = (0, 2)
_MEMORY_PEERS: Final = ("monai", "torchio")


@dataclass(frozen=True)
class _Timed:
    """Measurements of a loader with its best number of workers."""

    workers: int
    patches_per_s: float
    first_s: float
    total_s: float


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield rate, start-up time and memory of our loader beside each peer."""
    store = write_rois(folder, RoiPainter(size.roi), size.patients, arrays=True)
    job = Job(OURS, str(folder), size.crop, size.batch_size, size.batches)
    ours = _best(job, size)
    for peer in LOADERS:
        if peer != OURS:
            theirs = _best(replace(job, loader=peer), size) if is_installed(peer) else None
            yield from _compared(ours, peer, theirs, size)
    yield from _memory(job, size, _copy(store))


def _best(job: Job, size: Size) -> _Timed:
    """Return the best of a few numbers of workers.

    A peer, which is slower, tries them on fewer batches; its best number is then measured on all batches.
    """
    tries = [replace(job, workers=workers) for workers in _WORKERS.get(job.loader, _PEER_WORKERS)]
    short = size.batches if job.loader == OURS else min(size.batches, size.peer_batches)
    rates = [measure(replace(one, batches=short, warm_up=short // 5))["patches_per_s"] for one in tries]
    best = tries[rates.index(max(rates))]
    found = measure(replace(best, warm_up=best.batches // 5))
    # The best of all runs counts, so that a disturbed one harms neither side.
    rate = max(*rates, found["patches_per_s"])
    return _Timed(best.workers, rate, found["first_s"], found["total_s"])


def _compared(ours: _Timed, peer: str, theirs: _Timed | None, size: Size) -> Iterator[Row]:
    note = f"{ours.workers} workers; peer: {f'{theirs.workers} workers' if theirs else 'not installed'}"
    start = "cold process, imports included"
    rate, first, total = (theirs.patches_per_s, theirs.first_s, theirs.total_s) if theirs else (None, None, None)
    yield Row("loader", "steady state", "patches/s", ours.patches_per_s, peer, rate, "more", note)
    yield Row("loader", "first batch", "s", ours.first_s, peer, first, "less", start)
    what = f"{size.batches} batches of {size.batch_size}"
    yield Row("loader", what, "s", ours.total_s, peer, total, "less", start)


def _copy(store: Store) -> Path | None:
    """Return the folder in which our processes share decoded cases; None where there is no such folder."""
    home = private_home(Path("/dev/shm"))
    return home / copy_name(store, "train") if home else None


def _memory(job: Job, size: Size, copy: Path | None) -> Iterator[Row]:
    ours = [memory_mb(job, count, copy) for count in (1, NUM_TRIALS)]
    for peer in _MEMORY_PEERS:
        theirs: list[float | None] = [None, None]
        note = "not installed"
        if is_installed(peer):
            theirs, note = _peer_memory(replace(job, loader=peer, batches=size.batch_size))
        for count, mine, its in zip((1, NUM_TRIALS), ours, theirs, strict=True):
            yield Row("loader", f"memory of {count} trials", "MB", mine, peer, its, "less", note)
    yield Row("loader", f"memory of {NUM_TRIALS} trials by that of one", "ratio", ours[1] / ours[0], better="less")


def _peer_memory(job: Job) -> tuple[list[float | None], str]:
    note = "above idle processes of the same imports"
    alone = memory_mb(job, 1)
    if NUM_TRIALS * alone > available_mb():
        return [alone, None], f"{note}; {NUM_TRIALS} do not fit in this machine"
    return [alone, memory_mb(job, NUM_TRIALS)], note
