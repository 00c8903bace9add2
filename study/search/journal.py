"""Optuna's journal in a results folder, on a local disk or an object store.

Optuna appends to a file, which an object store does not allow. For an object store, the driver therefore keeps the file
in a temporary folder on its own disk; the study's lease makes it the only writer. The driver first fetches what is
stored, and uploads the whole file every `UPLOAD_EVERY_S` while it grows. The searcher waits for an upload (`flush`)
before it writes the first record of a trial, so that the stored journal knows every trial.

A killed driver may leave a few seconds of reports that were not uploaded. The trials' own records and logs hold them,
and the next driver reports them to Optuna.
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
from study.records.results import JOURNAL, Results

UPLOAD_EVERY_S: Final = 5.0
"""Time between two uploads."""
READ_EVERY_S: Final = 5.0
"""Age at which a reader fetches the journal again."""
_log = get_logger(__name__)


class StudyJournal(JournalStorage):
    """Optuna's storage over the journal of a results folder."""

    def __init__(self, backend: "_Local") -> None:
        """Open the storage over a file."""
        super().__init__(backend)
        self.backend = backend

    def flush(self) -> None:
        """Wait until the results folder holds everything that Optuna was told. Raises OSError if it cannot."""
        self.backend.flush()

    def close(self) -> None:
        """Flush, and remove temporary files. A second call does nothing."""
        self.backend.close()


def open_journal(results: Results) -> StudyJournal:
    """Open the journal of a results folder for writing. Only the driver that holds the study's lease may do so."""
    path = results.journal_path
    return StudyJournal(_Uploaded(path) if storage.is_remote(path) else _Local(path))


def read_journal(results: Results) -> JournalStorage:
    """Open the journal of a results folder for reading; the study may be running.

    The content is at most `READ_EVERY_S` old.

    Raises:
        ResultsError: the folder has no journal; later, if Optuna is asked to write.
    """
    path = results.journal_path
    if not storage.exists(path):
        raise ResultsError(f"{results} holds no {JOURNAL}; name a folder in which study.run has started trials")
    return JournalStorage(_ReadOnly(path))


class _Local(JournalFileBackend):
    """A local file to which Optuna appends in place."""

    def __init__(self, path: str) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_half_line(file)
        super().__init__(path)

    def flush(self) -> None:
        """Do nothing: Optuna flushes every append to the disk."""

    def close(self) -> None:
        """Do nothing: there are no temporary files."""


class _Uploaded(_Local):
    """A file on the driver's disk that is uploaded to an object store."""

    def __init__(self, path: str) -> None:
        folder = tempfile.mkdtemp(prefix="renalnet-journal-")
        # This also runs when the interpreter ends, so that a driver which fails leaves no folder behind.
        self._release = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._target = path
        self.source = Path(folder) / JOURNAL
        # Fetched first, because `_Local` repairs the end of the file.
        if storage.exists(path):
            self.source.write_bytes(storage.read_bytes(path))
        super().__init__(str(self.source))
        self._num_appended = 0
        self._num_stored = 0
        # An upload must not hold half an entry, so the file is read under the same lock.
        self._appending = threading.Lock()
        # Of two uploads at once, the older could arrive last and replace the newer one.
        self._uploading = threading.Lock()
        self.ended = threading.Event()
        # A daemon, so that a driver which never closes the journal can end.
        self._uploads = threading.Thread(target=self._upload_regularly, name="journal", daemon=True)
        self._uploads.start()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append to the local file."""
        with self._appending:
            super().append_logs(logs)
            self._num_appended += 1

    def flush(self) -> None:
        """Upload the file if it has grown; one upload at a time."""
        with self._uploading:
            # Released before the upload, so that the search need not wait for it.
            with self._appending:
                content = self.source.read_bytes()
                num_appended = self._num_appended
            if num_appended > self._num_stored:
                storage.write_bytes(self._target, content)
                self._num_stored = num_appended

    def close(self) -> None:
        """Upload a last time and remove the local file, also if the upload fails."""
        if self.ended.is_set():
            return
        self.ended.set()
        # Before the file is removed, from which that thread may be uploading.
        self._uploads.join()
        try:
            self.flush()
        finally:
            self._release()

    def __reduce__(self) -> tuple[type["_Uploaded"], tuple[str]]:
        """Pickle the path only: Ray Tune pickles its searcher with everything in it, and nobody reads the result."""
        return _Uploaded, (self._target,)

    def _upload_regularly(self) -> None:
        is_failing = False
        while not self.ended.wait(UPLOAD_EVERY_S):
            try:
                self.flush()
                is_failing = False
            # The search goes on: where an upload must succeed, the searcher calls `flush` itself, which raises.
            except OSError as error:
                if not is_failing:
                    _log.warning("%s: not uploaded (%s); trying again", self._target, error)
                is_failing = True


class _ReadOnly(BaseJournalBackend):
    """The whole lines of a journal that another process writes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[bytes] = []
        # The first read fetches, also where the clock starts at 0.
        self._read_at = -READ_EVERY_S

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the entries from the given number on."""
        if time.monotonic() - self._read_at >= READ_EVERY_S:
            # What follows the last line break is empty, or an entry that is still being written.
            *self._lines, _ = storage.read_bytes(self._path).split(b"\n")
            self._read_at = time.monotonic()
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, _: list[dict[str, Any]]) -> None:
        """Raise ResultsError: only the driver of the study writes."""
        raise ResultsError(f"{self._path} is opened for reading; only the study's own command writes to it")


def _drop_half_line(file: Path) -> None:
    """Cut off an entry that a full disk or a lost machine left unfinished: Optuna would append the next one to it."""
    if not file.exists() or (content := file.read_bytes()).endswith(b"\n"):
        return
    with file.open("r+b") as stream:
        stream.truncate(content.rfind(b"\n") + 1)
