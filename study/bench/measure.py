"""Contenders in processes of their own: how long they take, and what memory they hold together."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from renalnet.errors import ResultsError
from study.bench.contenders import Job

Process = subprocess.Popen[str]


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


def available_mb() -> float:
    """Memory that is free on this machine, or can be made so."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def _held_mb(job: Job, num_processes: int, shared: Path | None) -> float:
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(job)) for _ in range(num_processes)]
        for process in processes:
            answer(process, job.contender, job)
        return (sum(map(_own_bytes, processes)) + (_folder_bytes(shared) if shared else 0)) / 2**20


def _started(job: Job) -> AbstractContextManager[Process]:
    return started("study.bench.contenders", asdict(replace(job, started=time.monotonic())))


@contextmanager
def started(module: str, job: dict[str, Any], environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """A process of a module that takes its job as JSON; its input ends, and it is waited for, behind the block.

    Args:
        module: run as a program.
        job: its argument.
        environment: variables beside those of this process.
    """
    command = [sys.executable, "-m", module, json.dumps(job)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        process.communicate()


def ask(process: Process, word: str, contender: str, job: object) -> dict[str, float]:
    """What a process answers to a word. Raises ResultsError as `answer` does."""
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return answer(process, contender, job)


def answer(process: Process, contender: str, job: object) -> dict[str, float]:
    """The next line that a process writes. Raises ResultsError, naming its contender and job, where it has failed."""
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    if not line:
        last = process.stderr.read().strip().splitlines()[-1:]
        raise ResultsError(f"benchmark of {contender} failed: {' '.join(last)}; run {job} by itself")
    return dict(json.loads(line))


def _own_bytes(process: Process) -> int:
    """The process's share of its memory, less what it maps of files in shared memory, which is counted by itself."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return fields["Pss"] - fields["Pss_Shmem"]


def _folder_bytes(folder: Path) -> int:
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())
