"""The rows of a shard: one z-slab of an ROI a row, one row a row group, pixels as compressed bytes.

Pixel columns carry neither dictionary nor statistics: they only cost time. Lists of numbers would decode ten
times slower than binary columns, from whose buffers NumPy reads without a copy.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from renalnet.data.images.volume import Grid
from renalnet.data.store.class_locations import ClassLocations, draw_anchors
from renalnet.errors import StoreError
from renalnet.types import KIDNEY, TUMOR, HuArray, LabelArray

PIXEL_COLUMNS: Final = ("image", "label")
ANCHOR_COLUMNS: Final = ("kidney_anchors", "tumor_anchors")
COUNT_COLUMNS: Final = ("num_background", "num_kidney", "num_tumor")
IMAGE_DTYPE: Final = np.dtype("<i2")
LABEL_DTYPE: Final = np.dtype("u1")
ANCHOR_DTYPE: Final = np.dtype("<i2")
FOOTER_KEY: Final = b"renalnet"

SCHEMA: Final = pa.schema(
    [
        ("case", pa.string()),
        ("split", pa.string()),
        ("config_fingerprint", pa.string()),
        *((name, pa.int32()) for name in ("z_start", "num_slices", "height", "width")),
        *((name, pa.int64()) for name in COUNT_COLUMNS),
        *((f"spacing_{axis}_mm", pa.float64()) for axis in "zyx"),
        *((f"origin_{axis}_mm", pa.float64()) for axis in "zyx"),
        *((name, pa.large_binary()) for name in ANCHOR_COLUMNS),
        *((name, pa.large_binary()) for name in PIXEL_COLUMNS),
    ]
)
_PLACE_COLUMNS: Final = ("case", "z_start", "num_slices", "height", "width")
_LOCATION_COLUMNS: Final = ("case", "z_start", *COUNT_COLUMNS, *ANCHOR_COLUMNS)


class ShardBuilder:
    """One shard in memory; `finish` gives the bytes of the Parquet file."""

    def __init__(self, run: str) -> None:
        """`run` says which preparation writes it."""
        statistics = [name for name in SCHEMA.names if name not in (*PIXEL_COLUMNS, *ANCHOR_COLUMNS)]
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            use_dictionary=False,
            write_statistics=statistics,
            write_page_checksum=True,
        )
        self._footer: dict[str, Any] = {"run": run, "cases": {}}
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes compressed so far."""
        return int(self._sink.tell())

    def append(self, rows: pa.Table, case: str, about: dict[str, Any]) -> None:
        """Add the rows of a whole patient; `about` (geometry, split, notes) goes into the footer."""
        self._writer.write_table(rows, row_group_size=1)
        self._footer["cases"][case] = about
        self.num_rows += rows.num_rows

    def finish(self) -> bytes:
        """Close the file. The builder is used up."""
        self._writer.add_key_value_metadata({FOOTER_KEY: json.dumps(self._footer).encode()})
        self._writer.close()
        return bytes(self._sink.getvalue())


def read_footer(content: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """The run that wrote a shard, and what it says of each case. Raises arrow's errors, KeyError or ValueError."""
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        values = json.loads(file.metadata.metadata[FOOTER_KEY])
    return str(values["run"]), dict(values["cases"])


def slab_rows(columns: dict[str, str], image: HuArray, label: LabelArray, grid: Grid, slab_slices: int) -> pa.Table:
    """The rows of an ROI (z, y, x), cut into slabs along z; `columns` (case, split, …) are equal in each."""
    starts = range(0, image.shape[0], slab_slices)
    slabs = [_slab_row(columns["case"], image, label, slice(start, start + slab_slices)) for start in starts]
    place = {f"spacing_{axis}_mm": value for axis, value in zip("zyx", grid.spacing_mm, strict=True)}
    place |= {f"origin_{axis}_mm": value for axis, value in zip("zyx", grid.origin_mm, strict=True)}
    return pa.Table.from_pylist([{**columns, **place, **slab} for slab in slabs], schema=SCHEMA)


def _slab_row(case: str, image: HuArray, label: LabelArray, slices: slice) -> dict[str, Any]:
    pixels, classes = image[slices], label[slices]
    counts = np.bincount(classes.ravel(), minlength=3).tolist()
    num_slices, height, width = pixels.shape
    anchors = [draw_anchors(classes, slices.start, value, case) for value in (KIDNEY, TUMOR)]
    return {
        **{"z_start": slices.start, "num_slices": num_slices, "height": height, "width": width},
        **dict(zip(COUNT_COLUMNS, counts, strict=True)),
        **{name: a.astype(ANCHOR_DTYPE).tobytes() for name, a in zip(ANCHOR_COLUMNS, anchors, strict=True)},
        **{"image": pixels.astype(IMAGE_DTYPE).tobytes(), "label": classes.astype(LABEL_DTYPE).tobytes()},
    }


def read_slabs(file: pq.ParquetFile, case: str, rows: range) -> Iterator[tuple[int, HuArray, LabelArray]]:
    """(z_start, image, label) of each row of a case, as read-only views of what arrow decoded.

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


def read_class_locations(file: pq.ParquetFile, case: str, rows: range) -> ClassLocations:
    """Where the classes of a case lie; reads no pixel. Raises StoreError where a row belongs to another case."""
    table = file.read_row_groups(list(rows), columns=list(_LOCATION_COLUMNS))
    for row, found in zip(rows, table.column("case").to_pylist(), strict=True):
        _check_case(found, case, row)
    counts = np.stack([table.column(name).to_numpy() for name in COUNT_COLUMNS], axis=1)
    kidney, tumor = (
        tuple(np.frombuffer(cell, ANCHOR_DTYPE).reshape(-1, 3) for cell in table.column(name).to_pylist())
        for name in ANCHOR_COLUMNS
    )
    return ClassLocations(counts, table.column("z_start").to_numpy().astype(np.int64), kidney, tumor)


def _check_case(found: str, expected: str, row: int) -> None:
    if found != expected:
        raise StoreError(f"row {row} holds case '{found}' where the index says '{expected}'")


def _view(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The bytes of the only value of a large-binary column, not copied."""
    cell = column.chunk(0)
    _, offsets, values = cell.buffers()
    start, stop = np.frombuffer(offsets, np.int64, count=2, offset=8 * cell.offset)
    return np.frombuffer(values, dtype, count=(stop - start) // dtype.itemsize, offset=start)
