"""The journal of a preparation: what was found out about each new scan, a few scans a file, until the store has them.

Reading and checking a scan is most of a preparation's work. An interrupted preparation, and one that was stopped by a
bad scan, go on from here. Memory holds only which scans are known.
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
from renalnet.data.store.manifest import Origin
from renalnet.errors import StoreError
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger

CHECKS: Final = "checks"
CASES_A_FILE: Final = 64
_SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("case", "stamp", "inspection")])
_NAME: Final = re.compile(r"\d{6}\.parquet")
_TEMPORARY_NAME: Final = re.compile(r"\.\d{6}\.parquet\.[0-9a-f]{8}\.tmp")
_log = get_logger(__name__)


@dataclass(frozen=True)
class Inspection:
    """What is to be known of a scan before it is cut."""

    case: str
    stamp: str
    """Names, sizes and times of its files, and how they are read."""
    facts: CaseFacts | None
    """None where it could not be read."""
    findings: tuple[Finding, ...]
    candidate: AtlasCandidate | None = None
    """What it would be as an atlas; none for an ROI already cut."""

    @property
    def origin(self) -> Origin:
        """By which the store knows the patient again; only of a scan that could be read."""
        assert self.facts is not None
        return Origin(self.stamp, self.facts.image_digest, self.facts.label_digest)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Inspection":
        """The inverse of `to_json`. Raises KeyError or TypeError on anything else."""
        facts = CaseFacts(**values["facts"]) if values["facts"] else None
        candidate = AtlasCandidate(**values["candidate"]) if values["candidate"] else None
        findings = tuple(Finding(**found) for found in values["findings"])
        return cls(values["case"], values["stamp"], facts, findings, candidate)


class CheckJournal:
    """Inspections on disk, the newest of a case counting."""

    def __init__(self, store: str) -> None:
        """Find out what the folder of a store knows; damaged files count as absent: their scans are read again."""
        self._folder = storage.join(store, CHECKS)
        self._waiting: list[Inspection] = []
        self._file_of: dict[str, str] = {}
        self._stamp_of: dict[str, str] = {}
        for name in filter(_NAME.fullmatch, storage.list_names(self._folder)):
            try:
                table = self._read(name, ["case", "stamp"])
            except StoreError as error:
                _log.warning("%s", error)
                continue
            self._note(name, *(table.column(column).to_pylist() for column in ("case", "stamp")))
        self._next = 1 + max(map(int, (name.partition(".")[0] for name in self._file_of.values())), default=0)

    def stamp(self, case: str) -> str | None:
        """The stamp that a scan had when it was inspected; none for an unknown one."""
        return self._stamp_of.get(case)

    def add(self, inspection: Inspection) -> None:
        """Keep an inspection; every `CASES_A_FILE` of them are written together."""
        self._waiting.append(inspection)
        if len(self._waiting) >= CASES_A_FILE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
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
        """The inspections of some cases, file by file, so that few are in memory at a time; call `flush` before.

        Raises:
            StoreError: a file was damaged since.
        """
        for name in sorted(set(self._file_of.values())):
            for row in self._read(name).to_pylist():
                if row["case"] in cases and self._file_of.get(row["case"]) == name:
                    yield Inspection.from_json(json.loads(row["inspection"]))

    def remove(self) -> None:
        """Remove the journal: the store says it all."""
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
            words = " ".join(str(error).split())
            raise StoreError(f"{path}: damaged ({words}); remove it, its scans are then checked again") from error
