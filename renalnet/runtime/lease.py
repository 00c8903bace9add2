"""One writer per folder at a time, on any file system: a small file names the holder, who keeps it fresh.

The file is created only where there is none (`renalnet.runtime.exclusive`), so exactly one of many processes gets it.
A process that succeeds a dead holder creates the file `PATH.TOKEN`, named by that holder's token, in the same way.
A holder therefore has one successor, however many processes try. The current holder is the last of this chain and
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
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from renalnet.errors import BusyError
from renalnet.runtime import storage
from renalnet.runtime.exclusive import create
from renalnet.runtime.log import get_logger

BEAT_S: Final = 15.0
SILENT_S: Final = 4 * BEAT_S
"""A holder elsewhere that lets so much time pass without a beat, while it is watched, is gone, whatever clocks say."""
_LOOK_EVERY_S: Final = 1.0
_SETTLE_S: Final = 2.0
"""Where nothing decides between two who write at the same moment, so long later it shows whose file stayed."""
_log = get_logger(__name__)


class Lease:
    """Held inside a `with` block. A holder whose process is gone is succeeded, one on this machine at once."""

    def __init__(self, path: str, *, silent_s: float = SILENT_S) -> None:
        """`path` is the lease's file, on any path that `storage` knows."""
        self._path, self._silent_s = path, silent_s
        self._place = path
        self._about: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_space": _pid_space(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        while not self._is_ours(holder := self._holder()):
            if holder is not None and not self._is_gone(holder):
                raise BusyError(_words(self._path, holder))
            self._take(holder)
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beats.join()
        with suppress(OSError):  # a storage that went away is told of by what needed it
            chain = self._chain()
            if chain and self._is_ours(chain[-1]):
                for place in self._places(chain):  # the first one first: a rest that it does not lead to is nobody's
                    storage.delete(place)

    def check(self) -> None:
        """Raises BusyError where another has taken the lease, so that nothing is committed against it."""
        holder = self._holder()
        if not self._is_ours(holder):
            raise BusyError(_words(self._path, holder))

    def _take(self, gone: dict[str, Any] | None) -> None:
        """Try to follow a holder, or to be the first."""
        self._place = self._path if gone is None else _successor(self._path, gone["token"])
        outcome = create(self._place, self._content())
        if outcome == "unsure":
            time.sleep(_SETTLE_S)
        elif outcome == "created" and not self._is_ours(self._holder()):  # the chain was given back meanwhile
            storage.delete(self._place)

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        if not holder["pid"]:
            return True
        if all(holder.get(name) == self._about[name] for name in ("host", "pid_space")):
            if not _is_alive(holder["pid"]):
                return True
            if time.time() - holder["beat"] < SILENT_S:
                return False
        return self._is_silent(holder)

    def _is_silent(self, holder: dict[str, Any]) -> bool:
        """Whether nothing is heard of a holder for long, or it gives the lease back meanwhile."""
        _log.info("%s is held by %s; waiting up to %.0f s for a sign of it", self._path, _who(holder), self._silent_s)
        until = time.monotonic() + self._silent_s
        while time.monotonic() < until:
            time.sleep(min(_LOOK_EVERY_S, self._silent_s / 4))
            now = self._holder()
            if now != holder:
                return now is None
        return True

    def _is_ours(self, holder: dict[str, Any] | None) -> bool:
        return holder is not None and holder.get("token") == self._about["token"]

    def _holder(self) -> dict[str, Any] | None:
        return chain[-1] if (chain := self._chain()) else None

    def _chain(self) -> list[dict[str, Any]]:
        """The first holder that is known and those who succeeded it."""
        chain: list[dict[str, Any]] = []
        place = self._path
        while (holder := _read(place)) is not None:
            chain.append(holder)
            place = _successor(self._path, holder["token"])
        return chain

    def _places(self, chain: list[dict[str, Any]]) -> list[str]:
        return [self._path, *(_successor(self._path, holder["token"]) for holder in chain[:-1])]

    def _content(self) -> bytes:
        return json.dumps({**self._about, "beat": time.time()}).encode()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # a storage that fails for a while is tried again at the next beat
                if not self._is_ours(self._holder()):
                    return  # `check` will say so
                storage.write_bytes(self._place, self._content())


def _read(place: str) -> dict[str, Any] | None:
    """Who is named in a file; none where there is none. Half a lease is nobody's: process 0."""
    try:
        content = storage.read_bytes(place)
    except FileNotFoundError:
        return None
    try:
        values = dict(json.loads(content))
        return {**values, "token": str(values["token"]), "beat": float(values["beat"]), "pid": int(values["pid"])}
    except (KeyError, TypeError, ValueError):
        return {"token": hashlib.sha256(content).hexdigest()[:32], "pid": 0}


def _successor(path: str, token: str) -> str:
    """The file of the one who succeeds the holder of that token; a URI's query stays at its end."""
    base, mark, query = path.partition("?") if "://" in path else (path, "", "")
    return f"{base}.{token}{mark}{query}"


def _pid_space() -> str:
    """Where a process id means the same process; containers of one host number theirs apart."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def _words(path: str, holder: dict[str, Any] | None) -> str:
    who = _who(holder) if holder else "another"
    return f"{path}: {who} is writing here; wait for it to end, or end it, then repeat the command"
