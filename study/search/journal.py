"""Optuna's journal, a file of the results folder, also where that lies on an object store.

Optuna appends to a file, which an object store cannot. There the driver, alone under the study's lease, keeps the file
in a temporary folder of its own disk: fetched first, so that what is stored wins, and uploaded whole, every
`UPLOAD_EVERY_S` while it grows. The searcher waits for an upload (`flush`) before a trial's first record is written: no
trial exists that the stored journal does not know. What a killed driver had not uploaded yet is how trials went in its
last seconds; their own records and logs hold that, and the next driver tells Optuna of it.
"""

import json
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Final

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from renalnet.errors import ResultsError
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.records import paths

UPLOAD_EVERY_S: Final = 5.0
READ_EVERY_S: Final = 5.0
_log = get_logger(__name__)


class StudyJournal(JournalStorage):
    """Optuna's storage over the journal of a results folder."""

    def flush(self) -> None:
        """Wait until the results folder holds all that Optuna was told. Raises OSError where it cannot be written."""
        self._backend.flush()

    def close(self) -> None:
        """Flush, and let go of what was kept for the journal; twice is once."""
        self._backend.close()


def open_journal(results: str) -> StudyJournal:
    """The journal of a results folder (a local path or a URI), to write; for the one driver that holds the lease."""
    path = storage.join(results, paths.JOURNAL)
    return StudyJournal(_Uploaded(path) if storage.is_remote(path) else _Local(path))


def read_journal(results: str) -> JournalStorage:
    """The same to read only, of a study that may be running; as of `READ_EVERY_S` ago at most.

    Raises:
        ResultsError: there is none; later, where Optuna is asked to write.
    """
    path = storage.join(results, paths.JOURNAL)
    if not storage.exists(path):
        raise ResultsError(f"{results} holds no {paths.JOURNAL}; name a folder in which study.run has begun trials")
    return JournalStorage(_ReadOnly(path))


class _Local(JournalFileBackend):
    """A file that Optuna appends to where it lies."""

    def __init__(self, path: str) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_half_line(file)
        super().__init__(path)

    def flush(self) -> None:
        """Nothing: every append is flushed to the disk."""

    def close(self) -> None:
        """Nothing is kept."""


class _Uploaded(_Local):
    """A file on the driver's disk that follows itself to an object store."""

    def __init__(self, path: str) -> None:
        folder = tempfile.mkdtemp(prefix="renalnet-journal-")
        self._release = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._target, self._source = path, Path(folder) / paths.JOURNAL
        if storage.exists(path):
            self._source.write_bytes(storage.read_bytes(path))
        super().__init__(str(self._source))
        self._num_appended, self._num_stored = 0, 0
        self._appending, self._uploading = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._uploads = threading.Thread(target=self._upload_now_and_then, name="journal", daemon=True)
        self._uploads.start()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append to the local file."""
        with self._appending:
            super().append_logs(logs)
            self._num_appended += 1

    def flush(self) -> None:
        """Upload what was appended, if anything was; one upload at a time."""
        with self._uploading:
            with self._appending:
                content, num_appended = self._source.read_bytes(), self._num_appended
            if num_appended > self._num_stored:
                storage.write_bytes(self._target, content)
                self._num_stored = num_appended

    def close(self) -> None:
        """Upload a last time and remove the local file, also where that fails."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._uploads.join()
        try:
            self.flush()
        finally:
            self._release()

    def __reduce__(self) -> tuple[type["_Uploaded"], tuple[str]]:
        """Tune pickles its searcher with all that it holds, and nobody reads that."""
        return _Uploaded, (self._target,)

    def _upload_now_and_then(self) -> None:
        is_failing = False
        while not self._ended.wait(UPLOAD_EVERY_S):
            try:
                self.flush()
                is_failing = False
            except OSError as error:
                if not is_failing:
                    _log.warning("%s: not uploaded (%s); trying again", self._target, error)
                is_failing = True


class _ReadOnly(BaseJournalBackend):
    """Whole lines of a journal that another process writes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._read_at = -READ_EVERY_S

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Entries from the given number on."""
        if time.monotonic() - self._read_at >= READ_EVERY_S:
            *self._lines, _ = storage.read_bytes(self._path).split(b"\n")
            self._read_at = time.monotonic()
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, _: list[dict[str, Any]]) -> None:
        """Raises ResultsError: the study's driver alone writes."""
        raise ResultsError(f"{self._path} is opened to be read; only the study's own command changes it")


def _drop_half_line(file: Path) -> None:
    """Cut off an entry that a full disk or a lost machine left unfinished, to which Optuna would append the next."""
    if not file.exists() or (content := file.read_bytes()).endswith(b"\n"):
        return
    with file.open("r+b") as stream:
        stream.truncate(content.rfind(b"\n") + 1)
