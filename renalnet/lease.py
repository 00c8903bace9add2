"""One writer a folder at a time, on any file system: a small file that names its holder and is kept fresh.

No file system that matters lacks whole-file writes, and some (object stores) lack everything stronger. So a writer
puts its name, waits until a rival's would be there too, and reads back whose it is. This keeps two honest writers
apart; what protects the data if it ever fails is that files are named by their content.
"""

import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from renalnet import storage
from renalnet.errors import BusyError, InputError

BEAT_S: Final = 15.0
STALE_S: Final = 90.0
"""A holder that has not been heard of for so long, by this machine's clock, is watched."""
WATCH_S: Final = 2.5 * BEAT_S
"""One that stays silent meanwhile is gone, whatever the clocks say."""
_SETTLE_LOCAL_S: Final = 0.2
_SETTLE_REMOTE_S: Final = 2.0


class Lease:
    """Held inside a `with` block. A holder on this machine whose process is gone is succeeded at once."""

    def __init__(self, path: str, *, watch_s: float = WATCH_S) -> None:
        """`path` is the lease's file, on any path that `storage` knows."""
        self._path, self._watch_s = path, watch_s
        self._about: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._refuse_living(self._holder())
        self._put()
        time.sleep(_SETTLE_REMOTE_S if "://" in self._path else _SETTLE_LOCAL_S)
        self.check()
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beats.join()
        if self._is_ours(self._holder()):
            storage.delete(self._path)

    def check(self) -> None:
        """Raises BusyError where another has taken the lease, so that nothing is committed against it."""
        holder = self._holder()
        if not self._is_ours(holder):
            raise BusyError(_words(self._path, holder))

    def _refuse_living(self, holder: dict[str, Any] | None) -> None:
        if holder is None:
            return
        if holder.get("host") == self._about["host"] and not _is_alive(holder["pid"]):
            return
        if time.time() - holder["beat"] < STALE_S or self._beats_on(holder):
            raise BusyError(_words(self._path, holder))

    def _beats_on(self, holder: dict[str, Any]) -> bool:
        time.sleep(self._watch_s)
        now = self._holder()
        return now is not None and now != holder

    def _is_ours(self, holder: dict[str, Any] | None) -> bool:
        return holder is not None and holder.get("token") == self._about["token"]

    def _holder(self) -> dict[str, Any] | None:
        try:
            values = dict(storage.read_json(self._path))
            return {**values, "beat": float(values["beat"]), "pid": int(values["pid"])}
        except (FileNotFoundError, InputError, KeyError, TypeError, ValueError):  # half a lease is nobody's
            return None

    def _put(self) -> None:
        storage.write_json(self._path, {**self._about, "beat": time.time()})

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # a storage that fails for a while is tried again at the next beat
                if not self._is_ours(self._holder()):
                    return  # `check` will say so
                self._put()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _words(path: str, holder: dict[str, Any] | None) -> str:
    who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}" if holder else "another"
    return f"{path}: {who} is writing here; wait for it to end, or end it, then repeat the command"
