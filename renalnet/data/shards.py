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

from renalnet.data.volume import Grid
from renalnet.errors import StoreError
from renalnet.types import HuArray, LabelArray

PIXEL_COLUMNS: Final = ("image", "label")
IMAGE_DTYPE: Final = np.dtype("<i2")
LABEL_DTYPE: Final = np.dtype("u1")
FOOTER_KEY: Final = b"renalnet"

SCHEMA: Final = pa.schema(
    [
        ("case", pa.string()),
        ("split", pa.string()),
        ("config_fingerprint", pa.string()),
        *((name, pa.int32()) for name in ("z_start", "num_slices", "height", "width")),
        *((name, pa.int64()) for name in ("num_background", "num_kidney", "num_tumor")),
        *((f"spacing_{axis}_mm", pa.float64()) for axis in "zyx"),
        *((f"origin_{axis}_mm", pa.float64()) for axis in "zyx"),
        ("image", pa.large_binary()),
        ("label", pa.large_binary()),
    ]
)
_CHECKED_COLUMNS: Final = ("case", "z_start", "num_slices", "height", "width")


class ShardBuilder:
    """One shard in memory; `finish` gives the bytes of the Parquet file."""

    def __init__(self) -> None:
        plain = [name for name in SCHEMA.names if name not in PIXEL_COLUMNS]
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink, SCHEMA, compression="zstd", use_dictionary=False, write_statistics=plain
        )
        self._footer: dict[str, Any] = {}
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes compressed so far."""
        return int(self._sink.tell())

    def append(self, rows: pa.Table, case: str, about: dict[str, Any]) -> None:
        """Add the rows of a whole patient; `about` (geometry, split, notes) goes into the footer."""
        self._writer.write_table(rows, row_group_size=1)
        self._footer[case] = about
        self.num_rows += rows.num_rows

    def finish(self) -> bytes:
        """Close the file. The builder is used up."""
        self._writer.add_key_value_metadata({FOOTER_KEY: json.dumps(self._footer).encode()})
        self._writer.close()
        return bytes(self._sink.getvalue())


def slab_rows(columns: dict[str, str], image: HuArray, label: LabelArray, grid: Grid, slab_slices: int) -> pa.Table:
    """The rows of an ROI (z, y, x), cut into slabs along z; `columns` (case, split, …) are equal in each."""
    starts = range(0, image.shape[0], slab_slices)
    slabs = [_slab_row(image, label, slice(start, start + slab_slices)) for start in starts]
    place = {f"spacing_{axis}_mm": value for axis, value in zip("zyx", grid.spacing_mm, strict=True)}
    place |= {f"origin_{axis}_mm": value for axis, value in zip("zyx", grid.origin_mm, strict=True)}
    return pa.Table.from_pylist([{**columns, **place, **slab} for slab in slabs], schema=SCHEMA)


def _slab_row(image: HuArray, label: LabelArray, slices: slice) -> dict[str, Any]:
    pixels, classes = image[slices], label[slices]
    background, kidney, tumor = (int(count) for count in np.bincount(classes.ravel(), minlength=3))
    num_slices, height, width = pixels.shape
    return {
        **{"z_start": slices.start, "num_slices": num_slices, "height": height, "width": width},
        **{"num_background": background, "num_kidney": kidney, "num_tumor": tumor},
        **{"image": pixels.astype(IMAGE_DTYPE).tobytes(), "label": classes.astype(LABEL_DTYPE).tobytes()},
    }


def read_slabs(file: pq.ParquetFile, case: str, rows: range) -> Iterator[tuple[int, HuArray, LabelArray]]:
    """(z_start, image, label) of each row of a case, as read-only views of what arrow decoded.

    Raises:
        StoreError: the rows belong to another case.
    """
    for row in rows:
        table = file.read_row_group(row, columns=[*_CHECKED_COLUMNS, *PIXEL_COLUMNS])
        found = {name: table.column(name)[0].as_py() for name in _CHECKED_COLUMNS}
        if found["case"] != case:
            raise StoreError(f"row {row} holds case '{found['case']}' where the manifest says '{case}'")
        shape = found["num_slices"], found["height"], found["width"]
        image = _view(table.column("image"), IMAGE_DTYPE).reshape(shape)
        yield found["z_start"], image, _view(table.column("label"), LABEL_DTYPE).reshape(shape)


def _view(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The bytes of the only value of a large-binary column, not copied."""
    cell = column.chunk(0)
    _, offsets, values = cell.buffers()
    start, stop = np.frombuffer(offsets, np.int64, count=2, offset=8 * cell.offset)
    return np.frombuffer(values, dtype, count=(stop - start) // dtype.itemsize, offset=start)


def read_counts(file: pq.ParquetFile, rows: range) -> NDArray[np.int64]:
    """Voxels of each label in each row, (rows, 3); reads no pixel."""
    table = file.read_row_groups(list(rows), columns=["num_background", "num_kidney", "num_tumor"])
    return np.stack([column.to_numpy() for column in table.columns], axis=1)
