"""One Ray node as processes of this machine: a session of its own, which can be stopped, or killed as a whole."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STOP_TIMEOUT_S: Final = 15.0
MAX_STARTS: Final = 8
_TOO_SLOW: Final = "timed out during startup"
_PR_SET_PDEATHSIG: Final = 1
"""Of linux/prctl.h: the signal that a process gets when its parent ends."""
_LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True)
class NodeSize:
    """What each node offers to trials."""

    cpus: int = 1
    """Processor slots."""
    gpus: int = 1
    """GPUs; on a machine without any they are numbers only, by which Ray places trials."""
    object_store_mb: int = 200
    """Shared memory for Ray's objects, MiB."""


class RayNode:
    """`ray start --block` and all processes that it started."""

    def __init__(self, folder: Path, ip: str, size: NodeSize, options: Sequence[str], environment: Mapping[str, str]):
        """Start it.

        Args:
            folder: its temporary folder: short, since sockets with limited paths lie below, and not shared with
                another node, which would remove the job's files there when it dies.
            ip: its address, one of 127.0.0.0/8, so that Ray takes nodes of one machine for several machines.
            size: what it offers.
            options: further words of `ray start`.
            environment: its variables.
        """
        self.ip = ip
        self._folder, self._environment = folder, environment
        self._words = [ray_program(), "start", "--block", "--disable-usage-stats", f"--temp-dir={folder}"]
        self._words += [f"--node-ip-address={ip}", f"--num-cpus={size.cpus}", f"--num-gpus={size.gpus}"]
        self._words += [f"--object-store-memory={size.object_store_mb << 20}", *options]
        self._starts_left, self._is_gone = MAX_STARTS, False
        self._process = self._start()

    @property
    def runs(self) -> bool:
        """Whether it has neither been stopped nor died."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """The end of what `ray start` said."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-500:]

    def start_again(self) -> bool:
        """Start it anew where it gave up because the machine was too slow for Ray's 30 seconds; False if not so."""
        if not self._starts_left or self.runs or _TOO_SLOW not in self.output:
            return False
        self.kill()
        shutil.rmtree(self._folder)
        self._process, self._is_gone = self._start(), False
        return True

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as when a machine loses its power."""
        while members := self._members():
            for pid in members:
                _signal(pid, signal.SIGKILL)
        self._process.wait()
        self._is_gone = True  # from here on the number may be another process's

    def ask_to_stop(self) -> None:
        """SIGTERM to the process that ends the others."""
        if self.runs:
            self._process.terminate()

    def wait_stopped(self) -> None:
        """Wait until all have ended; after `STOP_TIMEOUT_S` kill those that have not."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline and (self.runs or self._members()):
            time.sleep(0.1)
        self.kill()

    def _members(self) -> list[int]:
        return [] if self._is_gone else list(_session_members(self._process.pid))

    @property
    def _log(self) -> Path:
        return self._folder / "start.log"

    def _start(self) -> subprocess.Popen[bytes]:
        self._starts_left -= 1
        self._folder.mkdir(parents=True)
        with self._log.open("wb") as log:
            return spawn(self._words, self._environment, log.fileno())


def ray_program() -> str:
    """The `ray` of this Python's environment."""
    return str(Path(sys.executable).with_name("ray"))


def spawn(words: Sequence[str], environment: Mapping[str, str], output: int | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it gets SIGTERM if this thread dies without stopping it."""
    return subprocess.Popen(
        words,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # the terminal's interrupt reaches this process alone
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, which takes no lock
    )


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _session_members(session: int) -> Iterator[int]:
    """Processes of a session that have not ended; a worker whose raylet is gone still belongs to it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, member_of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member_of) == session and state != "Z":
            yield int(folder.name)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
