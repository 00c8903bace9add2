"""Optuna's journal of a study, for reading only: a study that another process writes is looked at, never touched."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from renalnet import storage
from renalnet.errors import ResultsError
from study import layout

READ_EVERY_S: Final = 2.0
"""A page asks several times a second; a journal on an object store is fetched whole."""


def open_reader(results: str) -> JournalStorage:
    """The studies of a results folder, as they grow.

    Raises:
        ResultsError: the folder holds no study that has begun its search.
    """
    path = storage.join(results, layout.JOURNAL)
    if not storage.exists(path):
        raise ResultsError(f"{results} holds no search (no {layout.JOURNAL}); name the folder that study.run wrote")
    return JournalStorage(JournalReader(path))


class JournalReader(BaseJournalBackend):
    """The lines of a journal that are whole, on any path that `storage` knows."""

    def __init__(self, path: str) -> None:
        """Read nothing yet."""
        self._path = path
        self._lines: list[bytes] = []
        self._next_read = 0.0
        self._lock = threading.Lock()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The operations from a number on; a line that is being written is left for the next time."""
        with self._lock:
            if time.monotonic() >= self._next_read:
                self._lines = storage.read_bytes(self._path).split(b"\n")[:-1]
                self._next_read = time.monotonic() + READ_EVERY_S
            lines = self._lines[log_number_from:]
        return map(json.loads, lines)

    def append_logs(self, _logs: list[dict[str, Any]]) -> None:
        """Refused. Raises ResultsError."""
        raise ResultsError(f"{self._path} is shown here, not written; use Optuna on a copy of it")
