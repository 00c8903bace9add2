"""The ledger of a results folder: size and checksum of every file of finished work.

Work enters the ledger after its files are written and before it is announced. It leaves the ledger before its files are
changed or deleted. So a file that the ledger names and that is missing or differs was lost or damaged by something
else, also where a driver was killed at any moment. Only the driver that holds the study's lease writes the ledger.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from renalnet.errors import InputError, ResultsError
from renalnet.nets.bundle import CONFIG_FILE, MODEL_FILE
from renalnet.runtime import storage
from renalnet.train.epochs import LOG_FILE
from study.records.results import JOURNAL, Results

LEDGER: Final = "ledger.json"
VERSION: Final = 1
"""Version of the format."""
NUM_READERS: Final = 16
"""Files that are requested at once: an object store answers 16 requests about as fast as one."""
TRIAL_FILES: Final = ("trial.json", LOG_FILE, MODEL_FILE, CONFIG_FILE)
"""Files of an ended trial. The weights of most trials are deleted by the search."""
_CHECKSUM: Final = "checksum"
_changing = threading.Lock()
"""Two finalists are validated at once, each in a thread."""


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a file."""

    num_bytes: int
    """Size of the file; of the journal, which grows, the size of its checked beginning."""
    sha256: str
    """Checksum of these bytes, as hexadecimal text."""

    @classmethod
    def of(cls, content: bytes) -> "Entry":
        """Return the entry of a file with some content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class LedgerContent:
    """Content of a ledger."""

    files: Mapping[str, Entry] = field(default_factory=dict)
    """Entries by the file's name relative to the results folder, such as `trials/fcn_ppm-0003/trial.json`."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Text of the few small files that nothing else can restore, by the same names."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values with a checksum of them."""
        files = {name: [entry.num_bytes, entry.sha256] for name, entry in sorted(self.files.items())}
        values = {"version": VERSION, "files": files, "copies": dict(self.copies)}
        return {**values, _CHECKSUM: _checksum(values)}

    @classmethod
    def from_json(cls, values: Any) -> "LedgerContent":
        """Return what `to_json` wrote. Raises KeyError, TypeError or ValueError for other values."""
        if values[_CHECKSUM] != _checksum({name: value for name, value in values.items() if name != _CHECKSUM}):
            raise ValueError("the content differs from its checksum")
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}, this renalnet reads version {VERSION}")
        files = {name: Entry(num_bytes, sha256) for name, (num_bytes, sha256) in values["files"].items()}
        return cls(files, values["copies"])


@dataclass(frozen=True)
class Ledger:
    """The ledger of a results folder. Every method reads the file again, so there may be several objects."""

    results: Results

    @property
    def path(self) -> str:
        """The ledger's file."""
        return self.results.path(LEDGER)

    def find(self) -> LedgerContent | None:
        """Read the ledger; None where there is none, as in a results folder of an earlier version.

        Raises:
            ResultsError: it is damaged.
        """
        try:
            return LedgerContent.from_json(storage.read_json(self.path))
        except FileNotFoundError:
            return None
        except (InputError, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = "not JSON" if isinstance(error, InputError) else error
            raise ResultsError(f"{self.path} is damaged ({reason}); remove it, and the study makes it again") from error

    def write(self, content: LedgerContent) -> None:
        """Replace the whole ledger."""
        storage.write_bytes(self.path, (storage.json_line(content.to_json()) + "\n").encode())

    def add(self, names: Iterable[str]) -> None:
        """Enter files as they are now. Raises FileNotFoundError if one is missing."""
        files = entries_of(self.results, names)
        self._change(lambda content: replace(content, files={**content.files, **files}))

    def add_trial(self, name: str) -> None:
        """Enter the record, the log and, if they are kept, the weights of a trial that has ended."""
        self.add(present_files(self.results, name))

    def add_new(self, names: Iterable[str]) -> None:
        """Enter the files that the ledger does not name."""
        known = (self.find() or LedgerContent()).files
        self.add(name for name in names if name not in known)

    def add_new_trials(self, names: Iterable[str]) -> None:
        """Enter ended trials of which the ledger does not know the record."""
        known = (self.find() or LedgerContent()).files
        new = [name for name in names if f"trials/{name}/trial.json" not in known]
        self.add(file for name in new for file in present_files(self.results, name))

    def drop(self, names: Iterable[str]) -> None:
        """Remove files from the ledger, before they are changed or deleted."""
        gone = set(names)
        self._change(
            lambda content: replace(content, files={name: e for name, e in content.files.items() if name not in gone})
        )

    def drop_trial(self, name: str) -> None:
        """Remove all files of a trial, before it starts again."""
        self.drop(trial_files(name))

    def keep_copies(self, names: Iterable[str]) -> None:
        """Keep the text of small files, from which they can be restored."""
        copies = {name: storage.read_bytes(self.results.path(name)).decode() for name in names}
        self._change(lambda content: replace(content, copies={**content.copies, **copies}))

    def _change(self, change: Callable[[LedgerContent], LedgerContent]) -> None:
        with _changing:
            before = self.find()
            after = change(before or LedgerContent())
            if after != (before or LedgerContent()):
                self.write(after)


def trial_files(name: str) -> list[str]:
    """Return the names of all files that the ledger may have of a trial."""
    return [f"trials/{name}/{file}" for file in TRIAL_FILES]


def present_files(results: Results, name: str) -> list[str]:
    """Return the names of these files that a trial has."""
    found = storage.list_names(results.trial_folder(name))
    return [f"trials/{name}/{file}" for file in TRIAL_FILES if file in found]


def entries_of(results: Results, names: Iterable[str]) -> dict[str, Entry]:
    """Return the entries of files as they are now. Raises FileNotFoundError if one is missing."""
    listed = list(names)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        return dict(zip(listed, pool.map(partial(_entry_of, results), listed), strict=True))


def _entry_of(results: Results, name: str) -> Entry:
    content = storage.read_bytes(results.path(name))
    # The journal may end with an entry that is being written.
    return Entry.of(content[: content.rfind(b"\n") + 1] if name == JOURNAL else content)


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
