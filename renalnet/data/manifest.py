"""What a store's manifest says: configuration, normalisation, patients and shards, to JSON and back."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from renalnet.config import PrepareConfig, fingerprint, parse
from renalnet.data.volume import Grid
from renalnet.types import FloatArray, HuArray, Shape, Split

VERSION: Final = 1


@dataclass(frozen=True)
class Normalisation:
    """Clip, scale to 0-1, subtract the training mean (paper, III.B.1)."""

    hu_min: int
    hu_max: int
    mean: float
    """Mean of the clipped and scaled training ROIs, 0-1."""

    def apply(self, image: HuArray) -> FloatArray:
        """HU of any shape to float32 of the same shape, in [-mean, 1 - mean]."""
        scaled = np.clip(image, self.hu_min, self.hu_max).astype(np.float32)
        scaled -= np.float32(self.hu_min)
        scaled /= np.float32(self.hu_max - self.hu_min)
        scaled -= np.float32(self.mean)
        return scaled


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest knows it."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class CaseEntry:
    """A patient as the manifest knows it."""

    case: str
    split: Split
    shard: str
    first_row: int
    num_rows: int
    shape: Shape
    counts: tuple[int, int, int]
    """Voxels of background, kidney, tumor."""
    grid: Grid
    source: Grid
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {**asdict(self), "grid": self.grid.to_json(), "source": self.source.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CaseEntry":
        """The inverse of `to_json`."""
        tuples = {name: tuple(values[name]) for name in ("shape", "counts", "notes")}
        grids = {name: Grid.from_json(values[name]) for name in ("grid", "source")}
        return cls(**{**values, **tuples, **grids})


@dataclass(frozen=True)
class Provenance:
    """Where the scans came from."""

    digest: str = ""
    """Equal only for the same images, labels, case names and splits."""
    synthetic: bool = False
    """Whether the images were painted rather than scanned."""


@dataclass(frozen=True)
class Manifest:
    """What a store holds."""

    config: PrepareConfig
    normalisation: Normalisation
    cases: tuple[CaseEntry, ...]
    shards: tuple[ShardEntry, ...]
    notes: tuple[str, ...] = ()
    """Warnings of the preparation, in the order they arose."""
    about: Provenance = Provenance()

    @property
    def synthetic(self) -> bool:
        """Whether the images were painted rather than scanned."""
        return self.about.synthetic

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any shard, the configuration or the normalisation."""
        parts = [
            fingerprint(self.config),
            asdict(self.normalisation),
            [asdict(shard) for shard in self.shards],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "normalisation": asdict(self.normalisation),
            "about": asdict(self.about),
            "notes": list(self.notes),
            "shards": [asdict(shard) for shard in self.shards],
            "cases": [case.to_json() for case in self.cases],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """The inverse of `to_json`. Raises KeyError, TypeError or ConfigError on anything else."""
        return cls(
            parse(PrepareConfig, values["config"]),
            Normalisation(**values["normalisation"]),
            tuple(CaseEntry.from_json(case) for case in values["cases"]),
            tuple(ShardEntry(**shard) for shard in values["shards"]),
            tuple(values["notes"]),
            Provenance(**values["about"]),
        )
