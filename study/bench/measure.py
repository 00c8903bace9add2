"""Contenders in processes of their own: how long they take, and what memory they hold together."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from renalnet.errors import ResultsError
from study.bench.contenders import Job

Process = subprocess.Popen[str]


def measure(job: Job) -> dict[str, float]:
    """What a fresh process measures. Raises ResultsError where it fails."""
    with _started(job) as process:
        return _result(process, job)


def memory_mb(job: Job, num_processes: int, shared: Path | None = None) -> float:
    """Memory of so many processes that have done the job, above as many that have only imported what it imports.

    Args:
        shared: a folder in shared memory whose files count once, whoever maps them.
    """
    return _held_mb(job, num_processes, shared) - _held_mb(replace(job, batches=0), num_processes, shared)


def available_mb() -> float:
    """Memory that is free on this machine, or can be made so."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def _held_mb(job: Job, num_processes: int, shared: Path | None) -> float:
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(job)) for _ in range(num_processes)]
        for process in processes:
            _result(process, job)
        return (sum(map(_own_bytes, processes)) + (_folder_bytes(shared) if shared else 0)) / 2**20


@contextmanager
def _started(job: Job) -> Iterator[Process]:
    job = replace(job, started=time.monotonic())
    command = [sys.executable, "-m", "study.bench.contenders", json.dumps(asdict(job))]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.communicate()


def _result(process: Process, job: Job) -> dict[str, float]:
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    if not line:
        last = process.stderr.read().strip().splitlines()[-1:]
        raise ResultsError(f"benchmark of {job.contender} failed: {' '.join(last)}; run {job} by itself")
    return dict(json.loads(line))


def _own_bytes(process: Process) -> int:
    """The process's share of its memory, less what it maps of files in shared memory, which is counted by itself."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return fields["Pss"] - fields["Pss_Shmem"]


def _folder_bytes(folder: Path) -> int:
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())
