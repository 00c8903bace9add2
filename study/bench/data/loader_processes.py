"""The loading benchmark: feeds in processes of their own, how long they take, and what memory they hold together."""

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from study.bench.data.library_loaders import Job
from study.bench.measuring.processes import Process, answer, started


def measure(job: Job) -> dict[str, float]:
    """What a fresh process measures. Raises ResultsError where it fails."""
    with _started(job) as process:
        return answer(process, job.contender, job)


def memory_mb(job: Job, num_processes: int, shared: Path | None = None) -> float:
    """Memory of so many processes that have done the job, above as many that have only imported what it imports.

    Args:
        shared: a folder in shared memory whose files count once, whoever maps them.
    """
    return _held_mb(job, num_processes, shared) - _held_mb(replace(job, batches=0), num_processes, shared)


def _held_mb(job: Job, num_processes: int, shared: Path | None) -> float:
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(job)) for _ in range(num_processes)]
        for process in processes:
            answer(process, job.contender, job)
        return (sum(map(_own_bytes, processes)) + (_folder_bytes(shared) if shared else 0)) / 2**20


def _started(job: Job) -> AbstractContextManager[Process]:
    return started("study.bench.data.library_loaders", asdict(replace(job, started=time.monotonic())))


def _own_bytes(process: Process) -> int:
    """The process's share of its memory, less what it maps of files in shared memory, which is counted by itself."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return fields["Pss"] - fields["Pss_Shmem"]


def _folder_bytes(folder: Path) -> int:
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())
