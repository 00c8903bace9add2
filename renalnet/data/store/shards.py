"""The shards of a store: Parquet files with one row and one row group per z-slab of an ROI.

Voxels are stored as compressed bytes, because lists of numbers decode ten times slower than binary columns, from whose
buffers NumPy reads without a copy. Voxel columns have neither dictionary nor statistics, which would only cost time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.images.volume import Grid
from renalnet.data.store.class_locations import ClassLocations, draw_anchors
from renalnet.data.store.columns import Anchors, Binary, Counts, Float64, Int32, Text, columns_of, record_of, schema_of
from renalnet.errors import StoreError
from renalnet.json_text import parse_json
from renalnet.types import HuArray, LabelArray

PIXEL_COLUMNS: Final = ("image", "label")
# The byte order is fixed, because a binary column does not state the type of its values.
IMAGE_DTYPE: Final = np.dtype("<i2")
LABEL_DTYPE: Final = np.dtype("u1")
ANCHOR_DTYPE: Final = np.dtype("<i2")
FOOTER_KEY: Final = b"renalnet"
"""Key of the shard's own metadata in the Parquet footer."""


@dataclass(frozen=True)
class SlabRow:
    """One row of a shard: a z-slab of an ROI. The fields are the columns, in their order."""

    case: Text
    split: Text
    config_fingerprint: Text
    z_start: Int32
    """First slice of the slab in the ROI."""
    num_slices: Int32
    height: Int32
    width: Int32
    counts: Counts
    """Columns `num_background`, `num_kidney` and so on."""
    spacing_z_mm: Float64
    spacing_y_mm: Float64
    spacing_x_mm: Float64
    origin_z_mm: Float64
    origin_y_mm: Float64
    origin_x_mm: Float64
    anchors: Anchors
    """Columns `kidney_anchors`, `tumor_anchors` and so on: voxels (z, y, x) as int16."""
    image: Binary
    """CT numbers (z, y, x) as int16."""
    label: Binary
    """Labels (z, y, x) as uint8."""


_PLACE_COLUMNS: Final = ("case", "z_start", "num_slices", "height", "width")


class ShardBuilder:
    """One shard that is written in memory; `finish` returns the bytes of the Parquet file."""

    def __init__(self, run: str, labels: LabelSet) -> None:
        """Begin a shard of ROIs with `labels`; `run` identifies the preparation that writes it."""
        schema = schema_of(SlabRow, labels)
        without = (*PIXEL_COLUMNS, *columns_of(SlabRow, "anchors", labels))
        statistics = [name for name in schema.names if name not in without]
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            use_dictionary=False,
            write_statistics=statistics,
            write_page_checksum=True,
        )
        # The footer repeats the index, so that complete shards of an interrupted run can be adopted without one.
        self._footer: dict[str, Any] = {"run": run, "cases": {}}
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Number of compressed bytes so far."""
        return int(self._sink.tell())

    def append(self, rows: pa.Table, case: str, about: dict[str, Any]) -> None:
        """Add all rows of a case; `about` (geometry, split, notes) is stored in the footer."""
        # One row per row group, so that a reader of a few slices decodes no other slab.
        self._writer.write_table(rows, row_group_size=1)
        self._footer["cases"][case] = about
        self.num_rows += rows.num_rows

    def finish(self) -> bytes:
        """Close the file and return its content; the builder cannot be used afterwards."""
        self._writer.add_key_value_metadata({FOOTER_KEY: json.dumps(self._footer).encode()})
        self._writer.close()
        return bytes(self._sink.getvalue())


def read_footer(content: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the run that wrote a shard, and the JSON of each of its cases.

    Raises:
        pyarrow.ArrowException: the content is damaged or no Parquet file.
        KeyError, TypeError, ValueError: the footer is not that of a shard.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        values = parse_json(file.metadata.metadata[FOOTER_KEY])
    return str(values["run"]), dict(values["cases"])


def slab_rows(
    columns: dict[str, str], image: HuArray, label: LabelArray, grid: Grid, slab_slices: int, labels: LabelSet
) -> pa.Table:
    """Return the rows of an ROI (z, y, x) that is cut into slabs along z.

    Args:
        columns: case, split and fingerprint of the configuration, which are equal in each row.
        image: CT numbers.
        label: labels.
        grid: grid of both.
        slab_slices: slices per row; the last row may have fewer.
        labels: label set of `label`.
    """
    starts = range(0, image.shape[0], slab_slices)
    slabs = [
        _slab_columns(columns["case"], image, label, slice(start, start + slab_slices), labels) for start in starts
    ]
    shared: dict[str, Any] = {**columns}
    shared |= {f"spacing_{axis}_mm": value for axis, value in zip("zyx", grid.spacing_mm, strict=True)}
    shared |= {f"origin_{axis}_mm": value for axis, value in zip("zyx", grid.origin_mm, strict=True)}
    records = [record_of(SlabRow(**shared, **slab)) for slab in slabs]
    return pa.Table.from_pylist(records, schema=schema_of(SlabRow, labels))


def _slab_columns(case: str, image: HuArray, label: LabelArray, slices: slice, labels: LabelSet) -> dict[str, Any]:
    """Return the columns that differ between the slabs of an ROI."""
    pixels = image[slices]
    classes = label[slices]
    counts = np.bincount(classes.ravel(), minlength=labels.num_classes).tolist()
    num_slices, height, width = pixels.shape
    anchors = {each.name: draw_anchors(classes, slices.start, each.value, case) for each in labels.labels}
    return {
        **{"z_start": slices.start, "num_slices": num_slices, "height": height, "width": width},
        "counts": dict(zip(labels.class_names, counts, strict=True)),
        "anchors": {name: voxels.astype(ANCHOR_DTYPE).tobytes() for name, voxels in anchors.items()},
        **{"image": pixels.astype(IMAGE_DTYPE).tobytes(), "label": classes.astype(LABEL_DTYPE).tobytes()},
    }


def read_slabs(file: pq.ParquetFile, case: str, rows: range) -> Iterator[tuple[int, HuArray, LabelArray]]:
    """Yield (z_start, image, label) of each row of a case, as read-only views of the decoded buffers.

    Raises:
        StoreError: a row belongs to another case.
    """
    for row in rows:
        table = file.read_row_group(row, columns=[*_PLACE_COLUMNS, *PIXEL_COLUMNS])
        found = {name: table.column(name)[0].as_py() for name in _PLACE_COLUMNS}
        _check_case(found["case"], case, row)
        shape = found["num_slices"], found["height"], found["width"]
        image = _view(table.column("image"), IMAGE_DTYPE).reshape(shape)
        yield found["z_start"], image, _view(table.column("label"), LABEL_DTYPE).reshape(shape)


def read_class_locations(file: pq.ParquetFile, case: str, rows: range, labels: LabelSet) -> ClassLocations:
    """Return the locations of the classes of a case without reading voxels. Raises StoreError as `read_slabs` does."""
    count_columns = columns_of(SlabRow, "counts", labels)
    anchor_columns = columns_of(SlabRow, "anchors", labels)
    table = file.read_row_groups(list(rows), columns=["case", "z_start", *count_columns, *anchor_columns])
    for row, found in zip(rows, table.column("case").to_pylist(), strict=True):
        _check_case(found, case, row)
    counts = np.stack([table.column(name).to_numpy() for name in count_columns], axis=1)
    listed = tuple(
        tuple(np.frombuffer(cell, ANCHOR_DTYPE).reshape(-1, 3) for cell in table.column(name).to_pylist())
        for name in anchor_columns
    )
    return ClassLocations(counts, table.column("z_start").to_numpy().astype(np.int64), listed)


def _check_case(found: str, expected: str, row: int) -> None:
    if found != expected:
        raise StoreError(f"row {row} holds case '{found}', but the index says '{expected}'")


def _view(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the bytes of the only value of a large-binary column without a copy."""
    # `as_py` would copy the value. The buffers of a large-binary array are validity, int64 offsets and the bytes.
    cell = column.chunk(0)
    _, offsets, values = cell.buffers()
    start, stop = np.frombuffer(offsets, np.int64, count=2, offset=8 * cell.offset)
    return np.frombuffer(values, dtype, count=(stop - start) // dtype.itemsize, offset=start)
