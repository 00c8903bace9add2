"""Time and memory of loaders that run in their own processes."""

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from study.bench.data.library_loaders import Job
from study.bench.measuring.processes import Process, answer, started


def measure(job: Job) -> dict[str, float]:
    """Return the measurements of a job in a new process. Raises ResultsError where the process fails."""
    with _started(job) as process:
        return answer(process, job.loader, job)


def memory_mb(job: Job, num_processes: int, shared: Path | None = None) -> float:
    """Return the memory of processes after a job, beyond that of processes with only the same imports.

    Args:
        job: job that each process runs.
        num_processes: number of processes at the same time.
        shared: folder in shared memory whose files count once, however many processes map them.
    """
    return _held_mb(job, num_processes, shared) - _held_mb(replace(job, batches=0), num_processes, shared)


def _held_mb(job: Job, num_processes: int, shared: Path | None) -> float:
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(job)) for _ in range(num_processes)]
        # Read only after all have answered, because pages count in equal parts for all who map them.
        for process in processes:
            answer(process, job.loader, job)
        return (sum(map(_own_bytes, processes)) + (_folder_bytes(shared) if shared else 0)) / 2**20


def _started(job: Job) -> AbstractContextManager[Process]:
    return started("study.bench.data.library_loaders", asdict(replace(job, started=time.monotonic())))


def _own_bytes(process: Process) -> int:
    """Return the proportional memory of a process without files in shared memory, which `_folder_bytes` counts."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    # The first line of smaps_rollup is a range of addresses.
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return fields["Pss"] - fields["Pss_Shmem"]


def _folder_bytes(folder: Path) -> int:
    # Blocks in use, not the length, because the shared file is sparse.
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())
