"""What a store says of itself: configuration, normalisation and shards (JSON), and its patients (a Parquet index)."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from renalnet.config import PrepareConfig, fingerprint, parse
from renalnet.data.images.volume import Grid
from renalnet.types import FloatArray, HuArray, Shape, Split

VERSION: Final = 2


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
class FileEntry:
    """A file of the store as the manifest knows it."""

    name: str
    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, prefix: str, content: bytes, ending: str = "parquet") -> "FileEntry":
        """A file named by its content: two writers cannot write different files of one name."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(f"{prefix}-{digest[:16]}.{ending}", len(content), digest)


@dataclass(frozen=True)
class Origin:
    """By which a patient's files are known again."""

    stamp: str = ""
    """Names, sizes and times of the files: equal means untouched."""
    image_digest: str = ""
    """Hash of the image's voxels: equal means the same scan."""
    label_digest: str = ""
    """Hash of the label's voxels."""


@dataclass(frozen=True)
class CaseEntry:
    """A patient as the index knows it."""

    case: str
    split: Split
    shard: str
    first_row: int
    num_rows: int
    shape: Shape
    counts: tuple[int, int, int]
    """Voxels of background, kidney, tumor."""
    clipped_sum: int
    """Of the voxels' CT numbers, clipped: from these the training mean is taken."""
    grid: Grid
    source: Grid
    notes: tuple[str, ...]
    origin: Origin = Origin()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {**asdict(self), "grid": self.grid.to_json(), "source": self.source.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CaseEntry":
        """The inverse of `to_json`."""
        tuples = {name: tuple(values[name]) for name in ("shape", "counts", "notes")}
        grids = {name: Grid.from_json(values[name]) for name in ("grid", "source")}
        return cls(**{**values, **tuples, **grids, "origin": Origin(**values["origin"])})


INDEX_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("case", "split", "shard")),
        *((name, pa.int32()) for name in ("first_row", "num_rows", "depth", "height", "width")),
        *((name, pa.int64()) for name in ("num_background", "num_kidney", "num_tumor", "clipped_sum")),
        *((name, pa.string()) for name in ("grid", "source")),
        ("notes", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("stamp", "image_digest", "label_digest")),
    ]
)
_SHAPE: Final = ("depth", "height", "width")
_COUNTS: Final = ("num_background", "num_kidney", "num_tumor")


class CaseIndex:
    """The patients of a store as a table; a patient becomes an object when it is asked for.

    Ten thousand patients take a few megabytes here, and about ten times as much as objects.
    """

    def __init__(self, table: pa.Table) -> None:
        """`table` has the columns of `INDEX_SCHEMA` and is sorted by case."""
        self.table = table

    @classmethod
    def of(cls, entries: Iterable[CaseEntry]) -> "CaseIndex":
        """An index of some entries."""
        return cls(pa.Table.from_pylist([_row(entry) for entry in entries], schema=INDEX_SCHEMA).sort_by("case"))

    @classmethod
    def joined(cls, parts: Iterable["CaseIndex"]) -> "CaseIndex":
        """The patients of several indices."""
        table = pa.concat_tables([INDEX_SCHEMA.empty_table(), *(part.table for part in parts)])
        return cls(table.sort_by("case").combine_chunks())

    @classmethod
    def from_bytes(cls, content: bytes) -> "CaseIndex":
        """Read what `to_bytes` wrote. Raises arrow's errors, and ValueError for other columns."""
        # Not `read_table`, which imports the whole of arrow's data sets: 40 MB in every process.
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read(use_threads=False).combine_chunks()
        pa.default_memory_pool().release_unused()
        if table.schema != INDEX_SCHEMA:
            raise ValueError("its columns are not those of an index")
        return cls(table)

    def to_bytes(self) -> bytes:
        """A Parquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table, sink, compression="zstd", write_page_checksum=True)
        return bytes(sink.getvalue())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, case: str) -> bool:
        return case in self._rows

    def cases(self, split: Split | None = None) -> list[str]:
        """Names, sorted; of one split, or of all."""
        return [str(case) for case in self._part(split, ("case",)).column("case").to_pylist()]

    def splits(self) -> dict[str, Split]:
        """The split of each case."""
        return dict(zip(*(self.table.column(name).to_pylist() for name in ("case", "split")), strict=True))

    def with_splits(self, splits: Mapping[str, Split]) -> "CaseIndex":
        """The same patients, some of them in other splits."""
        changed = [splits.get(case, split) for case, split in self.splits().items()]
        place = self.table.column_names.index("split")
        return CaseIndex(self.table.set_column(place, INDEX_SCHEMA.field("split"), pa.array(changed, pa.string())))

    def entry(self, case: str) -> CaseEntry:
        """The entry of a case. Raises KeyError for an unknown one."""
        return _entry(self.table.slice(self._rows[case], 1).to_pylist()[0])

    def entries(self, split: Split | None = None) -> Iterator[CaseEntry]:
        """Entries sorted by case; of one split, or of all."""
        for batch in self._part(split).to_batches(max_chunksize=256):
            yield from map(_entry, batch.to_pylist())

    def totals(self, split: Split) -> NDArray[np.int64]:
        """Voxels of each label in a split, (3,)."""
        return np.array([self._sum(split, name) for name in _COUNTS], np.int64)

    def shapes(self, split: Split) -> NDArray[np.int64]:
        """Voxels (z, y, x) of each ROI of a split, (N, 3), in the order of `cases`."""
        return self._columns(split, _SHAPE)

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Voxels of each label of each patient of a split, (N, 3), in the order of `cases`."""
        return self._columns(split, _COUNTS)

    def mean_shape(self, split: Split) -> tuple[float, float, float]:
        """Mean size of a split's ROIs (z, y, x); the split holds a case."""
        part = self._part(split)
        depth, height, width = (float(pc.mean(part.column(name)).as_py()) for name in _SHAPE)
        return depth, height, width

    def clipped_sum(self, split: Split) -> int:
        """Sum of the clipped CT numbers of a split."""
        return self._sum(split, "clipped_sum")

    def shards(self, split: Split) -> set[str]:
        """Names of the shards that hold a split's patients."""
        return set(self._part(split).column("shard").to_pylist())

    def digest(self) -> str:
        """Equal only for the same images, labels, names and splits."""
        digest = hashlib.sha256()
        names = ("case", "split", "image_digest", "label_digest")
        for row in zip(*(self.table.column(name).to_pylist() for name in names), strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {case: row for row, case in enumerate(self.table.column("case").to_pylist())}

    def _part(self, split: Split | None, names: Sequence[str] = INDEX_SCHEMA.names) -> pa.Table:
        """Some columns of a split's patients, or of all."""
        table = self.table.select(list(names))
        return table if split is None else table.filter(pc.equal(self.table.column("split"), split))

    def _columns(self, split: Split, names: tuple[str, ...]) -> NDArray[np.int64]:
        part = self._part(split, names)
        return np.stack([part.column(name).to_numpy().astype(np.int64) for name in names], axis=1)

    def _sum(self, split: Split, name: str) -> int:
        return int(pc.sum(self._part(split).column(name)).as_py() or 0)


def _row(entry: CaseEntry) -> dict[str, Any]:
    plain = {name: getattr(entry, name) for name in ("case", "split", "shard", "first_row", "num_rows", "clipped_sum")}
    sizes = zip((*_SHAPE, *_COUNTS), (*entry.shape, *entry.counts), strict=True)
    grids = {name: json.dumps(getattr(entry, name).to_json()) for name in ("grid", "source")}
    return {**plain, **dict(sizes), **grids, "notes": list(entry.notes), **asdict(entry.origin)}


def _entry(row: dict[str, Any]) -> CaseEntry:
    depth, height, width = (row[name] for name in _SHAPE)
    background, kidney, tumor = (row[name] for name in _COUNTS)
    plain = {name: row[name] for name in ("case", "split", "shard", "first_row", "num_rows", "clipped_sum")}
    return CaseEntry(
        **plain,
        grid=Grid.from_json(json.loads(row["grid"])),
        source=Grid.from_json(json.loads(row["source"])),
        shape=(depth, height, width),
        counts=(background, kidney, tumor),
        notes=tuple(row["notes"]),
        origin=Origin(row["stamp"], row["image_digest"], row["label_digest"]),
    )


@dataclass(frozen=True)
class Provenance:
    """Where the scans came from."""

    digest: str = ""
    """Equal only for the same images, labels, case names and splits."""
    synthetic: bool = False
    """Whether images were painted rather than scanned."""
    complete_splits: tuple[Split, ...] = ()
    """Splits that were named by hand; cases added later are never drawn into them."""


@dataclass(frozen=True)
class Manifest:
    """What a store holds."""

    config: PrepareConfig
    normalisation: Normalisation
    index: FileEntry
    shards: tuple[FileEntry, ...]
    """Sorted by name."""
    atlas: FileEntry | None = None
    """The atlases by which kidneys were found."""
    facts: FileEntry | None = None
    """What the checks measured of each patient, by which one who comes again is known."""
    notes: tuple[str, ...] = ()
    """Warnings of the preparation, in the order they arose."""
    about: Provenance = Provenance()

    @property
    def synthetic(self) -> bool:
        """Whether images were painted rather than scanned."""
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
        """Plain lists and dictionaries, and a checksum of them."""
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
        }
        return {**values, "checksum": _checksum(values)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError or ConfigError on anything else."""
        if values["checksum"] != _checksum({name: value for name, value in values.items() if name != "checksum"}):
            raise ValueError("its content is not what was written")
        about = Provenance(**values["about"])
        atlas, facts = (FileEntry(**values[name]) if values[name] else None for name in ("atlas", "facts"))
        return cls(
            parse(PrepareConfig, values["config"]),
            Normalisation(**values["normalisation"]),
            FileEntry(**values["index"]),
            tuple(FileEntry(**shard) for shard in values["shards"]),
            atlas,
            facts,
            tuple(values["notes"]),
            replace(about, complete_splits=tuple(about.complete_splits)),
        )

    @property
    def beside(self) -> tuple[FileEntry, ...]:
        """The files beside the shards."""
        return tuple(entry for entry in (self.index, self.atlas, self.facts) if entry)


def _checksum(values: dict[str, Any]) -> str:
    """Of the content, not of its spelling."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
