"""What ends a command on Ray before its work is done: Ctrl-C, SIGTERM, or the loss of the cluster.

By itself, Ray 2.60 answers SIGTERM with an abort and a stack, and the loss of the cluster after a minute with an exit
or a stack. Here each of them is an error of this project, so that a command ends in one line.

After the loss of a Ray that ends with the command, the process ends at once. Any further call of Ray, also
`ray.shutdown`, may end it by a segmentation fault or by an exit with messages of Ray (seen where the raylet was killed
while tasks ran).
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

import ray

from renalnet.commands.line import fail_at_once
from renalnet.errors import ClusterError, StoppedError
from renalnet.runtime import process

OWN_PATIENCE_S: Final = 1.0
"""Time that a part of Ray on this machine may be silent. It does not come back."""
HEAD_PATIENCE_S: Final = 40.0
"""Time that the head of a cluster may be silent, which may restart. Ray 2.60 ends the process after 60 s."""
LEAVE_S: Final = 25.0
"""Time that the main thread has to leave after the loss of a cluster. Calls of Ray that wait for a lost GCS cannot be
interrupted."""
_LOOK_EVERY_S: Final = 0.5
"""Seconds between two looks at the parts of Ray."""
_KNOCK_S: Final = 5.0
"""Seconds that a part has to accept a connection."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class _EndNow(BaseException):
    """Leaves the block. It is no Exception, because Ray Tune takes those for failures of a trial."""


@dataclass
class _Part:
    """A process of Ray that this driver cannot do without."""

    name: str
    host: str
    port: int
    patience_s: float
    heard: float
    """When it last accepted a connection, on the monotonic clock."""

    def knock(self) -> str:
        """Connect once. Return why this failed; empty if it did not."""
        try:
            socket.create_connection((self.host, self.port), timeout=_KNOCK_S).close()
        except OSError as error:
            return error.strerror or str(error)
        self.heard = time.monotonic()
        return ""

    @property
    def is_lost(self) -> bool:
        """Whether it has been silent for longer than its patience."""
        return time.monotonic() - self.heard > self.patience_s


class _Watch:
    """Looks at the parts of Ray in a thread, and interrupts the main thread once one of them is lost."""

    def __init__(self, name: str, parts: list[_Part], *, is_own: bool) -> None:
        self._name = name
        self._parts = parts
        self._is_own = is_own
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_regularly, name="watch-ray", daemon=True)
        self.fault = ""
        """Which part is lost, and why; empty if none is."""
        self.has_left = False
        """Whether the main thread has left the block; from then on it is not interrupted."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, so that it does not take the end of Ray for a loss."""
        self._ended.set()
        self._thread.join()

    def error(self) -> ClusterError:
        """Return the error of the loss."""
        return ClusterError(
            f"{self._name} was lost ({self.fault}); what is finished is kept; repeat the command to go on"
        )

    def wait_for_fault(self) -> bool:
        """Return whether a part is lost, after the time that this takes to tell if one is silent now.

        Does not return where a Ray that ends with this command is lost.
        """
        while (is_silent := any(part.knock() for part in self._parts)) and (self._is_own or not self.fault):
            self._ended.wait(_LOOK_EVERY_S)
        return is_silent or bool(self.fault)

    def _look_regularly(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            for part in self._parts:
                reason = part.knock()
                if reason and part.is_lost:
                    self.fault = f"its {part.name} at {part.host}:{part.port} does not answer: {reason}"
                    self._interrupt()
                    return

    def _interrupt(self) -> None:
        """Make the main thread leave the block, or end the process."""
        # What Ray says about a loss, it says for each trial and task.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        if not self._is_own and self._makes_main_thread_leave():
            return
        # A Ray on this machine ends with this process, but its agents would look for its GCS for a minute.
        for pid in process.descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        fail_at_once(str(self.error()))

    def _makes_main_thread_leave(self) -> bool:
        """Interrupt the main thread until it leaves the block; return whether it did in time."""
        until = time.monotonic() + LEAVE_S
        while time.monotonic() < until:
            # Again and again, because Ray may drop an exception that is raised within its own code.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            if self._ended.wait(_LOOK_EVERY_S) or self.has_left:
                return True
        return False


@contextmanager
def ends_in_one_line(address: str) -> Iterator[None]:
    """Within the block, turn Ctrl-C, SIGTERM and the loss of the cluster into errors.

    Args:
        address: RAY_ADDRESS; empty for a Ray that ends with this command.

    Raises:
        StoppedError: after SIGTERM or Ctrl-C.
        ClusterError: after the loss of the cluster.
    """
    name = f"the cluster at RAY_ADDRESS={address}" if address else "Ray on this machine"
    watch = _Watch(name, _parts(address), is_own=not address)
    stopped_by: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if watch.has_left:
            return
        if not watch.fault:
            stopped_by.append(number)
        raise _EndNow

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    watch.start()
    try:
        yield
    except (_EndNow, Exception) as error:
        watch.has_left = True
        if stopped_by:
            raise StoppedError(
                f"stopped by {signal.Signals(stopped_by[0]).name}; what is finished is kept; repeat the command to "
                "go on",
                stopped_by[0],
            ) from None
        if watch.wait_for_fault():
            raise watch.error() from error
        raise
    finally:
        watch.has_left = True
        watch.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _parts(address: str) -> list[_Part]:
    """Return the parts that can be watched: those that answer from here now."""
    if address.startswith("ray://"):  # Ray's client: another process is the driver
        return []
    context = ray.get_runtime_context()
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    host, _, port = context.gcs_address.rpartition(":")
    now = time.monotonic()
    parts = [
        _Part("GCS", host.strip("[]"), int(port), HEAD_PATIENCE_S if address else OWN_PATIENCE_S, now),
        _Part("raylet", own["NodeManagerAddress"], own["NodeManagerPort"], OWN_PATIENCE_S, now),
    ]
    return [part for part in parts if not part.knock()]
