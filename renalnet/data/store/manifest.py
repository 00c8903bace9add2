"""The manifest of a store: its configuration, normalisation, files and provenance, as JSON."""

import hashlib
import json
from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from renalnet.config import Normalisation, PrepareConfig, fingerprint, parse
from renalnet.config.section import problem_of
from renalnet.data.cases.names import name_fault
from renalnet.types import Split

VERSION: Final = 2
"""Version of the format of a store, which a reader compares with its own."""
_NO_OTHERS: Final = ConfigDict(extra="forbid")
"""No fields but those of the class."""


@dataclass(frozen=True, config=_NO_OTHERS)
class FileEntry:
    """A file of a store with its size and checksum."""

    name: str
    num_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, prefix: str, content: bytes, ending: str = "parquet") -> "FileEntry":
        """Return the entry of a file named by its content; two writers thus never write different files of one name."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(f"{prefix}-{digest[:16]}.{ending}", len(content), digest)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FileEntry":
        """Return an entry of a manifest. Raises TypeError or ValueError if it is none of a file of the store."""
        entry: FileEntry = cls(**values)
        if fault := name_fault(entry.name):
            raise ValueError(f"file {entry.name!r:.200}: {fault}")
        return entry


@dataclass(frozen=True, config=_NO_OTHERS)
class Provenance:
    """Origin of the cases of a store."""

    digest: str = ""
    """Hash of images, label maps, case names and splits (`CaseIndex.digest`)."""
    synthetic: bool = False
    """Whether images were painted rather than scanned."""
    complete_splits: tuple[Split, ...] = ()
    """Splits that the user has named case by case; later cases are never drawn into them."""


@dataclass(frozen=True)
class Manifest:
    """Description of a store; a folder without it is no store."""

    config: PrepareConfig
    normalisation: Normalisation
    index: FileEntry
    shards: tuple[FileEntry, ...]
    """Shards, sorted by name."""
    atlas: FileEntry | None = None
    """File of the atlases by which kidneys were found."""
    facts: FileEntry | None = None
    """File of the facts of each case, by which copies of a case are recognised."""
    notes: tuple[str, ...] = ()
    """Warnings of the preparation, in the order in which they were given."""
    about: Provenance = Provenance()
    localiser: FileEntry | None = None
    """File of the coarse network by which kidneys were found; None in stores of older versions."""
    content: str = ""
    """Hash of the cases (`CaseIndex.content_digest`). Empty in stores of older versions, and where a case was not
    prepared from files."""

    @property
    def synthetic(self) -> bool:
        """Whether images were painted rather than scanned."""
        return self.about.synthetic

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on the cases, the configuration and the normalisation.

        The same scans give the same digits wherever they are. A store without `content` is identified by its shards,
        which hold the paths and times of the scans.
        """
        # Notes, facts, atlases and the localiser are left out, because a training run does not see them.
        parts = [
            fingerprint(self.config),
            asdict(self.normalisation),
            self.content or [asdict(shard) for shard in self.shards],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, with a checksum of them."""
        values = {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "normalisation": asdict(self.normalisation),
            "about": asdict(self.about),
            "notes": list(self.notes),
            "index": asdict(self.index),
            "shards": [asdict(shard) for shard in self.shards],
            "atlas": asdict(self.atlas) if self.atlas else None,
            "facts": asdict(self.facts) if self.facts else None,
            **({"localiser": asdict(self.localiser)} if self.localiser else {}),
            **({"content": self.content} if self.content else {}),
        }
        return {**values, "checksum": _checksum(values)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """Return the manifest that `to_json` wrote. Raises KeyError, TypeError, ValueError or ConfigError otherwise."""
        try:
            return cls._of_values(values)
        except ValidationError as error:
            raise ValueError(problem_of(error)) from error

    @classmethod
    def _of_values(cls, values: dict[str, Any]) -> "Manifest":
        if values["checksum"] != _checksum({name: value for name, value in values.items() if name != "checksum"}):
            raise ValueError("the content differs from its checksum")
        about = Provenance(**values["about"])
        atlas, facts = (FileEntry.from_json(values[name]) if values[name] else None for name in ("atlas", "facts"))
        return cls(
            parse(PrepareConfig, values["config"]),
            Normalisation(**values["normalisation"]),
            FileEntry.from_json(values["index"]),
            tuple(FileEntry.from_json(shard) for shard in values["shards"]),
            atlas,
            facts,
            values["notes"],
            about,
            FileEntry.from_json(values["localiser"]) if "localiser" in values else None,
            str(values.get("content", "")),
        )

    @property
    def beside(self) -> tuple[FileEntry, ...]:
        """The files beside the shards: index, atlases, network of the localiser and facts."""
        return tuple(entry for entry in (self.index, self.atlas, self.localiser, self.facts) if entry)


def _checksum(values: dict[str, Any]) -> str:
    """Return a hash of the values; it does not depend on the order of keys or on white space in the file."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
