"""Leases: one writer per folder at a time, on any file system. A small file names the holder, who renews it.

The file is created only if it does not exist (`renalnet.runtime.exclusive`), so exactly one of many processes gets it.
A process that takes over from a dead holder creates the file `PATH.TOKEN`, named by that holder's token, in the same
way. A holder therefore has one successor, however many processes try. The current holder is the last of this chain and
removes the whole chain at the end. If a lease ever fails, the data are still safe: files are named by their content.
"""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from renalnet.errors import BusyError
from renalnet.runtime import process, storage
from renalnet.runtime.exclusive import create
from renalnet.runtime.log import get_logger

BEAT_S: Final = 15.0
"""Seconds between two renewals of a lease by its holder."""
# Four beats, because a beat that fails with the storage is tried again only at the next one.
SILENT_S: Final = 4 * BEAT_S
"""A holder on another machine is dead if it does not renew its lease for this long while it is watched. The time is
measured here, because the clocks of two machines may differ."""
_LOOK_EVERY_S: Final = 1.0
"""Seconds between two readings of a lease that is watched."""
_SETTLE_S: Final = 2.0
"""Without an atomic creation, two processes may write at the same time. This long later, the file of one is left."""
_log = get_logger(__name__)


class Lease:
    """A lease that is held inside a `with` block.

    If the process of the holder has ended, the lease is taken over: at once on the same machine, after `silent_s` on
    another one.
    """

    def __init__(self, path: str, *, silent_s: float = SILENT_S) -> None:
        """Create a lease that is not held yet.

        Args:
            path: the lease's file, on any path that `storage` knows.
            silent_s: seconds without a renewal after which a holder on another machine is dead.
        """
        self._path = path
        self._silent_s = silent_s
        self._place = path
        self._about: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_space": process.namespace(),
            "started": process.start_of(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._ended = threading.Event()
        # A daemon thread does not keep the process alive.
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        # Again after each attempt, because only the chain tells which process has won.
        while not self._is_ours(holder := self._holder()):
            if holder is not None and not self._is_gone(holder):
                raise BusyError(_busy_message(self._path, holder))
            self._take(holder)
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beats.join()  # a later beat would write a file again that is deleted below
        with suppress(OSError):  # whatever used the folder reports a storage that is lost
            chain = self._chain()
            if chain and self._is_ours(chain[-1]):
                # The first file first: nobody reads the other files once the first one is gone.
                for place in self._places(chain):
                    storage.delete(place)

    def check(self) -> None:
        """Raise BusyError if another process has taken the lease. Callers check before they commit anything."""
        holder = self._holder()
        if not self._is_ours(holder):
            raise BusyError(_busy_message(self._path, holder))

    def _take(self, gone: dict[str, Any] | None) -> None:
        """Try to become the successor of a holder, or the first holder."""
        self._place = self._path if gone is None else _successor(self._path, gone["token"])
        outcome = create(self._place, self._content())
        if outcome == "unsure":
            time.sleep(_SETTLE_S)
        elif outcome == "created" and not self._is_ours(self._holder()):  # the chain has been removed meanwhile
            storage.delete(self._place)

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        if not holder["pid"]:  # an incomplete file, see `_read`
            return True
        if all(holder.get(name) == self._about[name] for name in ("host", "pid_space")):
            if not process.is_alive(holder["pid"], holder.get("started")):
                return True
            # One machine has one clock, so the time of the last beat can be compared. One in the future tells nothing.
            if 0 <= time.time() - holder["beat"] < SILENT_S:
                return False
        # A process that lives without renewing may be stopped, or another one with the id of the holder.
        return self._is_silent(holder)

    def _is_silent(self, holder: dict[str, Any]) -> bool:
        """Return whether a holder does not renew its lease for `silent_s`, or gives it back meanwhile."""
        _log.info("%s is held by %s; waiting up to %.0f s for its renewal", self._path, _named(holder), self._silent_s)
        until = time.monotonic() + self._silent_s
        while time.monotonic() < until:
            time.sleep(min(_LOOK_EVERY_S, self._silent_s / 4))  # several readings also if `silent_s` is short
            now = self._holder()
            if now != holder:
                return now is None  # any other change is a renewal or a successor
        return True

    def _is_ours(self, holder: dict[str, Any] | None) -> bool:
        return holder is not None and holder.get("token") == self._about["token"]

    def _holder(self) -> dict[str, Any] | None:
        return chain[-1] if (chain := self._chain()) else None

    def _chain(self) -> list[dict[str, Any]]:
        """Return the first known holder and its successors, in order."""
        chain: list[dict[str, Any]] = []
        place = self._path
        while (holder := _read(place)) is not None:
            chain.append(holder)
            place = _successor(self._path, holder["token"])
        return chain

    def _places(self, chain: list[dict[str, Any]]) -> list[str]:
        return [self._path, *(_successor(self._path, holder["token"]) for holder in chain[:-1])]

    def _content(self) -> bytes:
        # The time differs in each content, so that a watcher sees a renewal as a change.
        return json.dumps({**self._about, "beat": time.time()}).encode()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # a storage that fails for some time is tried again at the next beat
                if not self._is_ours(self._holder()):
                    return  # `check` reports it
                storage.write_bytes(self._place, self._content())


def _read(place: str) -> dict[str, Any] | None:
    """Return the holder that a file names, or None if there is no file.

    An incomplete file belongs to nobody, which process id 0 expresses.
    """
    try:
        content = storage.read_bytes(place)
    except FileNotFoundError:
        return None
    try:
        values = dict(json.loads(content))
        return {**values, "token": str(values["token"]), "beat": float(values["beat"]), "pid": int(values["pid"])}
    except (KeyError, TypeError, ValueError):
        # The token follows from the content, so that all processes compete for the same successor's file.
        return {"token": hashlib.sha256(content).hexdigest()[:32], "pid": 0}


def _successor(path: str, token: str) -> str:
    """Return the file of the successor of the holder with this token. The query of a URI stays at its end."""
    base, mark, query = path.partition("?") if "://" in path else (path, "", "")
    return f"{base}.{token}{mark}{query}"


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def _busy_message(path: str, holder: dict[str, Any] | None) -> str:
    writer = _named(holder) if holder else "another process"
    return f"{path}: {writer} is writing here; wait for it to end, or end it, then repeat the command"
