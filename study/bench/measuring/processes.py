"""Contenders in processes of their own: how long they take, and what memory they hold together."""

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
    """Memory that is free on this machine, or can be made so."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


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


_PACKAGES: Final = {"monai, indices cached": "monai"}


def is_installed(contender: str) -> bool:
    """Whether a contender's package is here."""
    return util.find_spec(_PACKAGES.get(contender, contender)) is not None


def peak_mb() -> float:
    """Peak memory of this process; that of `getrusage` holds the peak of the process which started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
