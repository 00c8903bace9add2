"""The index of a store: split, shard, size, class counts, geometry and origin of each case."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.cases.names import name_fault
from renalnet.data.images.grid import MAX_VOXELS
from renalnet.data.images.volume import Grid
from renalnet.data.store.columns import Counts, Int32, Int64, Text, Texts, columns_of, record_of, row_of, schema_of
from renalnet.errors import StoreError
from renalnet.json_text import parse_json
from renalnet.types import SPLITS, Shape, Split

WRONG_VALUES: Final = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
"""Errors of values that are not those of a case."""


@dataclass(frozen=True)
class Origin:
    """Identity of the files that a case was prepared from."""

    stamp: str = ""
    """Hash of the names, sizes and times of the files; equal for files that nobody has touched."""
    image_digest: str = ""
    """Hash of the voxels of the image; equal for the same scan."""
    label_digest: str = ""
    """Hash of the voxels of the label map."""


@dataclass(frozen=True)
class CaseEntry:
    """One case of a store, as the rest of the program uses it."""

    case: str
    split: Split
    shard: str
    """File name of the shard that holds the case."""
    first_row: int
    """First row of the case in its shard."""
    num_rows: int
    shape: Shape
    """Voxels (z, y, x) of the ROI."""
    counts: tuple[int, ...]
    """Voxels of each class by value, background first."""
    clipped_sum: int
    """Sum of the clipped CT numbers, from which the training mean is computed."""
    grid: Grid
    """Grid of the ROI."""
    source: Grid
    """Grid of the scan, as its file states it."""
    notes: tuple[str, ...]
    """Deviations of the preparation, e.g. that the ROI was enlarged."""
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        if fault := _fault_of(self):
            raise ValueError(f"case {self.case!r:.200}: {fault}")

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, for the footer of a shard."""
        return {**asdict(self), "grid": self.grid.to_json(), "source": self.source.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CaseEntry":
        """Return the entry that `to_json` wrote. Raises one of `WRONG_VALUES` for other values."""
        tuples = {name: tuple(values[name]) for name in ("shape", "counts", "notes")}
        grids = {name: Grid.from_json(values[name]) for name in ("grid", "source")}
        return cls(**{**values, **tuples, **grids, "origin": Origin(**values["origin"])})


def _fault_of(entry: CaseEntry) -> str:
    """Return what is impossible about an entry, which may come from elsewhere; empty if nothing is."""
    voxels = prod(entry.shape)
    if min(entry.shape) < 1 or voxels > MAX_VOXELS or entry.grid.shape != entry.shape:
        return f"shape {entry.shape} is not the size of an ROI on a grid of {entry.grid.shape}"
    if entry.first_row < 0 or entry.num_rows < 1:
        return f"{entry.num_rows} rows from row {entry.first_row} on hold no ROI"
    if min(entry.counts) < 0 or sum(entry.counts) != voxels:
        return f"counts {entry.counts} are not those of {voxels} voxels"
    return ""


@dataclass(frozen=True)
class IndexRow:
    """One row of the index file: a case entry as scalars. The fields are the columns, in their order."""

    case: Text
    split: Annotated[Split, pa.string()]
    shard: Text
    first_row: Int32
    num_rows: Int32
    depth: Int32
    height: Int32
    width: Int32
    counts: Counts
    """Columns `num_background`, `num_kidney` and so on."""
    clipped_sum: Int64
    grid: Text
    """JSON of the grid of the ROI."""
    source: Text
    """JSON of the grid of the scan."""
    notes: Texts
    stamp: Text
    image_digest: Text
    label_digest: Text

    @classmethod
    def of(cls, entry: CaseEntry, labels: LabelSet) -> "IndexRow":
        """Return the row of an entry."""
        return cls(
            *(entry.case, entry.split, entry.shard, entry.first_row, entry.num_rows),
            *entry.shape,
            dict(zip(labels.class_names, entry.counts, strict=True)),
            clipped_sum=entry.clipped_sum,
            grid=json.dumps(entry.grid.to_json()),
            source=json.dumps(entry.source.to_json()),
            notes=list(entry.notes),
            **asdict(entry.origin),
        )

    def entry(self) -> CaseEntry:
        """Return the entry of this row."""
        return CaseEntry(
            case=self.case,
            split=self.split,
            shard=self.shard,
            first_row=self.first_row,
            num_rows=self.num_rows,
            shape=(self.depth, self.height, self.width),
            counts=tuple(self.counts.values()),
            clipped_sum=self.clipped_sum,
            grid=Grid.from_json(parse_json(self.grid)),
            source=Grid.from_json(parse_json(self.source)),
            notes=tuple(self.notes),
            origin=Origin(self.stamp, self.image_digest, self.label_digest),
        )


_SHAPE: Final = ("depth", "height", "width")
_DIGESTS: Final = ("image_digest", "label_digest")


class CaseIndex:
    """The cases of a store as an arrow table; a case becomes an object only on request.

    Ten thousand cases take a few megabytes as a table, and about ten times as much as objects.
    """

    def __init__(self, table: pa.Table, labels: LabelSet) -> None:
        """Use `table`, which has the columns of an `IndexRow` with `labels` and is sorted by case."""
        self.table = table
        self.labels = labels
        self._count_columns = columns_of(IndexRow, "counts", labels)

    @classmethod
    def of(cls, entries: Iterable[CaseEntry], labels: LabelSet) -> "CaseIndex":
        """Return the index of some entries, in any order."""
        records = [record_of(IndexRow.of(entry, labels)) for entry in entries]
        return cls(pa.Table.from_pylist(records, schema=schema_of(IndexRow, labels)).sort_by("case"), labels)

    @classmethod
    def joined(cls, parts: Iterable["CaseIndex"], labels: LabelSet) -> "CaseIndex":
        """Return one index of the cases of several, which all have `labels`."""
        # Arrow concatenates at least one table; the empty one stands in where there are no parts.
        empty = schema_of(IndexRow, labels).empty_table()
        table = pa.concat_tables([empty, *(part.table for part in parts)])
        return cls(table.sort_by("case").combine_chunks(), labels)

    @classmethod
    def from_bytes(cls, content: bytes, labels: LabelSet) -> "CaseIndex":
        """Return the index that `to_bytes` wrote.

        Raises:
            pyarrow.ArrowException: the content is damaged or no Parquet file.
            ValueError: the columns are not those of an index, or a name or split cannot be one.
        """
        # Not `read_table`, which imports the whole of arrow's data sets: 40 MB in every process.
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read(use_threads=False).combine_chunks()
        # Every process of a node reads the index, so what decoding leaves in the pool is given back.
        pa.default_memory_pool().release_unused()
        if table.schema != schema_of(IndexRow, labels):
            raise ValueError("the columns are not those of an index")
        index = cls(table, labels)
        require_possible(index)
        return index

    def to_bytes(self) -> bytes:
        """Return the content of a Parquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table, sink, compression="zstd", write_page_checksum=True)
        return bytes(sink.getvalue())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, case: str) -> bool:
        return case in self._rows

    def cases(self, split: Split | None = None) -> list[str]:
        """Return the sorted names of the cases of one split, or of all."""
        return [str(case) for case in self._part(split, ("case",)).column("case").to_pylist()]

    def splits(self) -> dict[str, Split]:
        """Return the split of each case."""
        return dict(zip(*(self.table.column(name).to_pylist() for name in ("case", "split")), strict=True))

    def with_splits(self, splits: Mapping[str, Split]) -> "CaseIndex":
        """Return an index of the same cases in which those of `splits` have another split."""
        changed = [splits.get(case, split) for case, split in self.splits().items()]
        place = self.table.column_names.index("split")
        field = self.table.schema.field("split")
        return CaseIndex(self.table.set_column(place, field, pa.array(changed, pa.string())), self.labels)

    def entry(self, case: str) -> CaseEntry:
        """Return the entry of a case. Raises KeyError for an unknown one."""
        return self._entry(self.table.slice(self._rows[case], 1).to_pylist()[0])

    def entries(self, split: Split | None = None) -> Iterator[CaseEntry]:
        """Yield the entries of one split, or of all, sorted by case."""
        # In batches, so that only a few rows are Python objects at a time.
        for batch in self._part(split).to_batches(max_chunksize=256):
            yield from map(self._entry, batch.to_pylist())

    def totals(self, split: Split) -> NDArray[np.int64]:
        """Return the voxels of each class in a split, by value, shape (classes,)."""
        return np.array([self._sum(split, name) for name in self._count_columns], np.int64)

    def shapes(self, split: Split) -> NDArray[np.int64]:
        """Return the voxels (z, y, x) of each ROI of a split, shape (N, 3), in the order of `cases`."""
        return self._columns(split, _SHAPE)

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Return the voxels of each class in each case of a split, shape (N, classes), in the order of `cases`."""
        return self._columns(split, self._count_columns)

    def mean_shape(self, split: Split) -> tuple[float, float, float]:
        """Return the mean size (z, y, x) in voxels of the ROIs of a split that has at least one case."""
        part = self._part(split)
        depth, height, width = (float(pc.mean(part.column(name)).as_py()) for name in _SHAPE)
        return depth, height, width

    def clipped_sum(self, split: Split) -> int:
        """Return the sum of the clipped CT numbers of a split."""
        return self._sum(split, "clipped_sum")

    def shards(self, split: Split) -> set[str]:
        """Return the names of the shards that hold the cases of a split."""
        return set(self._part(split).column("shard").to_pylist())

    def digest(self) -> str:
        """Return sixteen hexadecimal digits; equal only for the same images, label maps, names and splits."""
        return self._digest(("case", "split", *_DIGESTS))

    def content_digest(self) -> str:
        """Return sixteen hexadecimal digits; equal only for the same scans, cut and labelled in the same way.

        They do not depend on the folder of the scans, the times of their files, or the shards. Empty where a case has
        no hashes of its scan, because then nothing here stands for its voxels.
        """
        if any(pc.any(pc.equal(self.table.column(name), "")).as_py() for name in _DIGESTS):
            return ""
        # The counts and the sum also tell apart ROIs that another version cut differently from the same voxels.
        return self._digest(
            ("case", "split", *_SHAPE, *self._count_columns, "clipped_sum", "grid", "source", *_DIGESTS)
        )

    def _digest(self, names: Sequence[str]) -> str:
        digest = hashlib.sha256()
        for row in zip(*(self.table.column(name).to_pylist() for name in names), strict=True):
            # JSON marks where each value ends; joined values of different rows could be equal.
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {case: row for row, case in enumerate(self.table.column("case").to_pylist())}

    def _part(self, split: Split | None, names: Sequence[str] | None = None) -> pa.Table:
        """Return some columns, by default all, of the cases of one split, or of all."""
        table = self.table.select(list(names)) if names else self.table
        # Compared in the whole table, because the selected columns may lack the split.
        return table if split is None else table.filter(pc.equal(self.table.column("split"), split))

    def _columns(self, split: Split, names: tuple[str, ...]) -> NDArray[np.int64]:
        part = self._part(split, names)
        return np.stack([part.column(name).to_numpy().astype(np.int64) for name in names], axis=1)

    def _sum(self, split: Split, name: str) -> int:
        # Arrow's sum over an empty split is null.
        return int(pc.sum(self._part(split).column(name)).as_py() or 0)

    def _entry(self, record: dict[str, Any]) -> CaseEntry:
        try:
            return row_of(IndexRow, record, self.labels).entry()
        except WRONG_VALUES as error:
            reason = " ".join(str(error).split())
            raise StoreError(f"index: not understood ({reason}); restore the store or prepare it again") from error


def require_possible(index: CaseIndex) -> None:
    """Check an index from elsewhere.

    Raises:
        ValueError: a name would lead out of a folder, or is given twice; a split is none; or a number is negative.
    """
    table = index.table
    for case in table.column("case").to_pylist():
        if fault := name_fault(case):
            raise ValueError(f"case {case!r:.200}: {fault}")
    for name in table.column_names:
        if table.column(name).null_count:
            raise ValueError(f"column {name} lacks values")
        # Sums of CT numbers may be negative.
        is_count = name != "clipped_sum" and pa.types.is_integer(table.schema.field(name).type)
        if is_count and (pc.min(table.column(name)).as_py() or 0) < 0:
            raise ValueError(f"column {name} holds a negative number")
    if len(pc.unique(table.column("case"))) < table.num_rows:
        raise ValueError("a case is listed twice")
    for split in pc.unique(table.column("split")).to_pylist():
        if split not in SPLITS:
            raise ValueError(f"split {split!r:.200}: must be one of {', '.join(SPLITS)}")
