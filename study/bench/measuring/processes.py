"""Processes that each measure one program under comparison, and answer in lines of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any, Final

from renalnet.errors import ResultsError

Process = subprocess.Popen[str]


def available_mb() -> float:
    """Return the memory of this machine that is free or can be freed."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


@contextmanager
def started(module: str, job: dict[str, Any], environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Yield a process that runs a module with its job as JSON; after the block its input ends and it is waited for.

    Args:
        module: module to run as a program.
        job: argument of the program.
        environment: environment variables in addition to those of this process.
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
        # It also empties the pipes, which a process with more output would wait for.
        process.communicate()


def ask(process: Process, word: str, name: str, job: object) -> dict[str, float]:
    """Send a word to a process and return its answer. Raises ResultsError as `answer` does."""
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return answer(process, name, job)


def answer(process: Process, name: str, job: object) -> dict[str, float]:
    """Return the next line of JSON that a process writes.

    Args:
        process: process to read from.
        name: name of the program under comparison, for the error.
        job: job of the process, for the error.

    Raises:
        ResultsError: the process has ended.
    """
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    if not line:
        last = process.stderr.read().strip().splitlines()[-1:]
        raise ResultsError(f"benchmark of {name} failed: {' '.join(last)}; run {job} alone to see its output")
    return dict(json.loads(line))


_PACKAGES: Final = {"monai, indices cached": "monai"}
"""Packages of the programs whose name is not that of their package."""


def is_installed(name: str) -> bool:
    """Return whether the package of a program under comparison is installed."""
    return util.find_spec(_PACKAGES.get(name, name)) is not None


def peak_mb() -> float:
    """Return the peak memory of this process."""
    # Not `getrusage`, whose peak a child process inherits from the process that started it.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def family_mb(pid: int) -> float:
    """Return the memory of a process and all its descendants; memory that they share counts once."""
    return sum(map(_memory_mb, _family(pid)))


def _family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _family(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return  # the process has just ended


def _memory_mb(pid: int) -> float:
    """Return the proportional memory of a process; 0 for one that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
