"""MetaImage (`.mha`, and `.mhd` with its data file), after the fields that ITK documents for it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from renalnet.data.grid import Grid, Volume, grid_of_axes
from renalnet.data.headertext import HeaderFields, header_lines
from renalnet.data.pixels import Inflated, Promise, bytes_left, three_dimensional
from renalnet.errors import InputError

_LAST_FIELD: Final = "elementdatafile"
_DTYPES: Final = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_DIRECTION_FIELDS: Final = ("transformmatrix", "rotation", "orientation")
_ORIGIN_FIELDS: Final = ("offset", "position", "origin")


def read_metaimage(path: Path) -> Volume:
    """Read an image.

    Raises:
        InputError: the file is damaged, uses what is not supported here (text, several data files, more than one
            value a voxel or volume), or does not say where it lies.
    """
    with path.open("rb") as file, ExitStack() as stack:
        fields = _read_fields(file, path)
        local = fields.text(_LAST_FIELD).upper() == "LOCAL"
        data = file if local else stack.enter_context(fields.beside(_LAST_FIELD).open("rb"))
        compressed = _flag(fields, "compresseddata")
        size = fields.integers("dimsize")
        if fields.integers("ndims") != [len(size)]:
            raise fields.damaged("ndims")
        promise = Promise(str(path), three_dimensional(str(path), size), _dtype(fields))
        _skip(data, fields, promise, compressed)
        promise.check(bytes_left(data), compressed=compressed)
        grid = _grid(fields, size)
        return Volume(promise.read(Inflated(data, "zlib") if compressed else data), grid)


def _read_fields(file: BinaryIO, path: Path) -> HeaderFields:
    fields = HeaderFields(path)
    for line in header_lines(file, _LAST_FIELD):
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip().lower()] = value.strip()
    if _LAST_FIELD not in fields:
        raise InputError(f"{path}: not readable as an image (no header of a MetaImage file); replace or remove it")
    if not _flag(fields, "binarydata", "True"):
        raise InputError(f"{path}: its pixels are text; save it as binary data")
    if fields.floats("elementtointensityfunctionslope", [1.0]) != [1.0] or fields.floats(
        "elementtointensityfunctionoffset", [0.0]
    ) != [0.0]:
        raise InputError(f"{path}: its values are to be rescaled; save it as CT numbers")
    return fields


def _flag(fields: HeaderFields, name: str, default: str = "False") -> bool:
    value = fields.text(name, default).lower()
    if value not in ("true", "false", "1", "0"):
        raise fields.damaged(name)
    return value in ("true", "1")


def _dtype(fields: HeaderFields) -> np.dtype[Any]:
    if fields.integers("elementnumberofchannels", [1]) != [1]:
        raise InputError(f"{fields.where}: several values a voxel; a scan or label has one: extract it")
    code = _DTYPES.get(fields.text("elementtype").upper())
    if code is None:
        raise fields.damaged("elementtype")
    order = "elementbyteordermsb" if "elementbyteordermsb" in fields else "binarydatabyteordermsb"
    return np.dtype(code).newbyteorder(">" if _flag(fields, order) else "<")


def _grid(fields: HeaderFields, size: list[int]) -> Grid:
    """Further axes than three, which are of one element, say nothing about the volume."""
    num_axes = len(size)
    direction = _named(fields, _DIRECTION_FIELDS, np.eye(num_axes).ravel().tolist(), num_axes**2)
    spacing = _named(fields, ("elementspacing", "elementsize"), None, num_axes)
    origin = _named(fields, _ORIGIN_FIELDS, [0.0] * num_axes, num_axes)
    if min(spacing[:3]) <= 0:
        raise fields.damaged("elementspacing")
    columns = np.array(direction).reshape(num_axes, num_axes)[:3, :3].T  # a line of the field is an axis
    return grid_of_axes(fields.where, size, columns * np.array(spacing[:3]), origin[:3])


def _named(fields: HeaderFields, names: tuple[str, ...], default: list[float] | None, count: int) -> list[float]:
    """The numbers of whichever of the names is there."""
    name = next((name for name in names if name in fields), names[0])
    values = fields.floats(name, default)
    if len(values) != count:
        raise fields.damaged(name)
    return values


def _skip(data: BinaryIO, fields: HeaderFields, promise: Promise, compressed: bool) -> None:
    """Go to where the pixels start; a header size of -1 means that they end the file."""
    (num_bytes,) = fields.integers("headersize", [0])[:1] or [0]
    start = bytes_left(data) - promise.num_bytes if num_bytes == -1 and not compressed else num_bytes
    if not 0 <= start <= bytes_left(data):
        raise fields.damaged("headersize")
    data.seek(start, 1)
