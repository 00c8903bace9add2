"""One Ray node as processes of this machine. They form a session, which can be stopped or killed as a whole."""

import ctypes
import json
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

from cluster.ray_private import num_gpus
from renalnet.runtime.machine import FAKE_GPU

STOP_TIMEOUT_S: Final = 15.0
"""Seconds that the processes have to end before they are killed."""
# Eight times Ray's 30 seconds fit into the five minutes of `cluster.local.START_TIMEOUT_S`.
MAX_STARTS: Final = 8
"""Attempts to start a node on a machine that is too slow."""
_TOO_SLOW: Final = "timed out during startup"
"""Part of the text that `ray start` prints if the node is not ready after 30 seconds."""
_PR_SET_PDEATHSIG: Final = 1
"""Option of linux/prctl.h that sets the signal a process gets when its parent ends."""
# Loaded here, because between fork and exec a child must not load a library.
_LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True)
class NodeSize:
    """Resources that a node offers to trials."""

    cpus: int = 1
    """Processor slots."""
    gpus: int = 1
    """GPUs. On a machine without GPUs this is only a number, by which Ray places trials."""
    # By default, each Ray node takes 30 % of the machine's memory: too much for several nodes on one machine.
    object_store_mb: int = 200
    """Shared memory for Ray's objects, in MiB."""


class RayNode:
    """The process `ray start --block` and all processes that it starts."""

    def __init__(self, folder: Path, ip: str, size: NodeSize, options: Sequence[str], environment: Mapping[str, str]):
        """Start the node.

        Args:
            folder: temporary folder of this node alone, because a node that dies removes the files of its jobs there.
                Its path must be short, because Ray creates sockets in it.
            ip: address in 127.0.0.0/8. With different addresses, Ray treats nodes of one machine as several machines.
            size: resources that the node offers.
            options: further arguments of `ray start`.
            environment: environment variables of the processes.
        """
        self.ip = ip
        self._folder = folder
        self._environment = environment
        self._command = [ray_program(), "start", "--block", "--disable-usage-stats", f"--temp-dir={folder}"]
        self._command += [f"--node-ip-address={ip}", f"--num-cpus={size.cpus}", f"--num-gpus={size.gpus}"]
        if size.gpus and not num_gpus():
            self._command += [f"--resources={json.dumps({FAKE_GPU: size.gpus})}"]
        self._command += [f"--object-store-memory={size.object_store_mb << 20}", *options]
        self._starts_left = MAX_STARTS
        self._is_gone = False
        self._process = self._start()

    @property
    def runs(self) -> bool:
        """Whether `ray start` is still running."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """The last 500 characters of the output of `ray start`."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-500:]

    def start_again(self) -> bool:
        """Start the node again if it ended because the machine was too slow. Return whether it was started."""
        if not self._starts_left or self.runs or _TOO_SLOW not in self.output:
            return False
        self.kill()
        shutil.rmtree(self._folder)  # sockets and session of the failed start
        self._process = self._start()
        self._is_gone = False
        return True

    def kill(self) -> None:
        """Send SIGKILL to all processes of the node, as if its machine lost power."""
        while members := self._members():  # again, because a process may have started another one meanwhile
            for pid in members:
                _signal(pid, signal.SIGKILL)
        self._process.wait()
        self._is_gone = True  # from here on, another process may have the same id

    def ask_to_stop(self) -> None:
        """Send SIGTERM to `ray start`, which ends the other processes."""
        if self.runs:
            self._process.terminate()

    def wait_stopped(self) -> None:
        """Wait until all processes have ended. After `STOP_TIMEOUT_S`, kill those that have not."""
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
            return spawn(self._command, self._environment, log.fileno())


def ray_program() -> str:
    """Return the path of the program `ray` in this Python's environment."""
    return str(Path(sys.executable).with_name("ray"))


def spawn(command: Sequence[str], environment: Mapping[str, str], output: int | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own. It gets SIGTERM if this thread ends without stopping it.

    Args:
        command: program and arguments.
        environment: all environment variables of the command.
        output: file descriptor for stdout and stderr; this process's own without one.
    """
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C in the terminal then reaches this process only, which passes it on
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - safe with threads, since it is one system call without a lock
    )


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _session_members(session: int) -> Iterator[int]:
    """Yield the ids of the running processes of a session. A worker whose raylet has ended still belongs to it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the last ")", because the name of a program may hold spaces and brackets (man 5 proc).
            state, _, _, member_of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member_of) == session and state != "Z":  # Z: it has ended, and nobody has read its exit code
            yield int(folder.name)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
