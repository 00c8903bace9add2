"""The journal of a preparation: the inspections of new scans, kept on disk until the store has the cases.

Reading and checking the scans is most of the work of a preparation. The journal lets a preparation continue after it
was interrupted or stopped by a bad scan. Memory holds only the names and stamps of the inspected scans.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.data.cases.findings import Finding
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.localise.atlas import AtlasCandidate
from renalnet.data.store.index import Origin
from renalnet.errors import StoreError
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger

CHECKS: Final = "checks"
CASES_PER_FILE: Final = 64
"""Inspections that are written together; an interrupted preparation repeats fewer than these."""
_SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("case", "stamp", "inspection")])
_NAME: Final = re.compile(r"\d{6}\.parquet")
_TEMPORARY_NAME: Final = re.compile(r"\.\d{6}\.parquet\.[0-9a-f]{8}\.tmp")
_log = get_logger(__name__)


@dataclass(frozen=True)
class Inspection:
    """Result of reading and checking a scan."""

    case: str
    stamp: str
    """Hash of the names, sizes and times of the files and of how they are read (`scan_stamp`)."""
    facts: CaseFacts | None
    """Facts of the case; None where the scan could not be read."""
    findings: tuple[Finding, ...]
    candidate: AtlasCandidate | None = None
    """Description of the case as a possible atlas; None for an ROI already cut."""

    @property
    def origin(self) -> Origin:
        """Identity of the case in the store; only for a scan that could be read."""
        assert self.facts is not None
        return Origin(self.stamp, self.facts.image_digest, self.facts.label_digest)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Inspection":
        """Return the inspection that `to_json` wrote. Raises KeyError or TypeError for other values."""
        facts = CaseFacts(**values["facts"]) if values["facts"] else None
        candidate = AtlasCandidate(**values["candidate"]) if values["candidate"] else None
        findings = tuple(Finding(**found) for found in values["findings"])
        return cls(values["case"], values["stamp"], facts, findings, candidate)


class CheckJournal:
    """Inspections on disk; where a case has several, the newest one counts."""

    def __init__(self, store: str) -> None:
        """List the inspections in the folder of a store; damaged files are skipped, so their scans are read again."""
        self._folder = storage.join(store, CHECKS)
        self._waiting: list[Inspection] = []
        self._file_of: dict[str, str] = {}
        self._stamp_of: dict[str, str] = {}
        # Names are sorted and numbered in order of writing, so that later inspections replace earlier ones.
        for name in filter(_NAME.fullmatch, storage.list_names(self._folder)):
            try:
                table = self._read(name, ["case", "stamp"])
            except StoreError as error:
                _log.warning("%s", error)
                continue
            self._note(name, *(table.column(column).to_pylist() for column in ("case", "stamp")))
        self._next = 1 + max(map(int, (name.partition(".")[0] for name in self._file_of.values())), default=0)

    def stamp(self, case: str) -> str | None:
        """Return the stamp that a scan had at its inspection; None for a scan that was not inspected."""
        return self._stamp_of.get(case)

    def add(self, inspection: Inspection) -> None:
        """Add an inspection; `CASES_PER_FILE` of them are written together."""
        self._waiting.append(inspection)
        if len(self._waiting) >= CASES_PER_FILE:
            self.flush()

    def flush(self) -> None:
        """Write the inspections that are not written yet."""
        if not self._waiting:
            return
        name = f"{self._next:06d}.parquet"
        rows = [{"case": i.case, "stamp": i.stamp, "inspection": json.dumps(i.to_json())} for i in self._waiting]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink, compression="zstd", write_page_checksum=True)
        storage.write_bytes(storage.join(self._folder, name), bytes(sink.getvalue()))
        self._note(name, [i.case for i in self._waiting], [i.stamp for i in self._waiting])
        self._next += 1
        self._waiting.clear()

    def inspections(self, cases: Collection[str]) -> Iterator[Inspection]:
        """Yield the inspections of some cases, one file in memory at a time; call `flush` first.

        Raises:
            StoreError: a file was damaged meanwhile.
        """
        # File by file instead of case by case, so that each file is read once.
        for name in sorted(set(self._file_of.values())):
            for row in self._read(name).to_pylist():
                if row["case"] in cases and self._file_of.get(row["case"]) == name:
                    yield Inspection.from_json(json.loads(row["inspection"]))

    def remove(self) -> None:
        """Remove the journal, whose content the finished store has."""
        for name in storage.list_names(self._folder):
            if _NAME.fullmatch(name) or _TEMPORARY_NAME.fullmatch(name):
                storage.delete(storage.join(self._folder, name))

    def _note(self, name: str, cases: list[str], stamps: list[str]) -> None:
        self._file_of |= dict.fromkeys(cases, name)
        self._stamp_of |= dict(zip(cases, stamps, strict=True))

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        path = storage.join(self._folder, name)
        try:
            content = pa.BufferReader(storage.read_bytes(path))
            with pq.ParquetFile(content, page_checksum_verification=True) as file:
                return file.read(columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            one_line = " ".join(str(error).split())
            raise StoreError(f"{path}: damaged ({one_line}); remove it, its scans are then checked again") from error
