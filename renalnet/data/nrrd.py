"""NRRD (`.nrrd`, and `.nhdr` with its data file), after the format's definition at teem.sourceforge.net/nrrd."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.grid import Grid, Volume, grid_of_axes
from renalnet.data.headertext import HeaderFields, header_lines
from renalnet.data.pixels import Inflated, Promise, bytes_left
from renalnet.errors import InputError

_MAGIC: Final = re.compile(r"NRRD000[1-6]")
_FIELD: Final = re.compile(r"([^:]+): (.*)")
_ALIASES: Final = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
_DTYPES: Final = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TO_LPS: Final = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_COMPRESSED: Final = ("gzip", "gz")
_MILLIMETRES: Final = ("mm", "millimeter", "millimetre")


def read_nrrd(path: Path) -> Volume:
    """Read an image.

    Raises:
        InputError: the file is damaged, uses what is not supported here (text or bzip2 encoding, several data
            files, more than one value a voxel or volume), or does not say where it lies.
    """
    with path.open("rb") as file, ExitStack() as stack:
        fields = _read_fields(file, path)
        size, axes = _axes(fields)
        dtype = _dtype(fields)
        data = stack.enter_context(fields.beside("data file").open("rb")) if "data file" in fields else file
        compressed = fields.text("encoding").lower() in _COMPRESSED
        promise = Promise(str(path), size, dtype)
        _skip(data, fields, promise, compressed)
        promise.check(bytes_left(data), compressed=compressed)
        grid = _grid(fields, size, axes)
        return Volume(promise.read(Inflated(data, "gzip") if compressed else data), grid)


def _read_fields(file: BinaryIO, path: Path) -> HeaderFields:
    magic, *lines = header_lines(file) or [""]
    if not _MAGIC.fullmatch(magic):
        raise InputError(f"{path}: not readable as an image (no header of an NRRD file); replace or remove it")
    fields = HeaderFields(path)
    for line in lines:
        if match := _FIELD.fullmatch(line):
            name = match[1].strip().lower()
            fields[_ALIASES.get(name, name)] = match[2].strip()
    encoding = fields.text("encoding").lower()
    if encoding not in ("raw", *_COMPRESSED):
        raise InputError(f"{path}: NRRD encoding '{encoding:.20}' is not read here; save it with encoding raw or gzip")
    return fields


def _dtype(fields: HeaderFields) -> np.dtype[Any]:
    name = fields.text("type").lower()
    code = next((code for code, names in _DTYPES.items() if name in names), None)
    if code is None:
        raise fields.damaged("type")
    endian = fields.text("endian", "" if code.endswith("1") else None).lower()
    if endian not in ("little", "big", "") or (not endian and not code.endswith("1")):
        raise fields.damaged("endian")
    return np.dtype(code).newbyteorder(">" if endian == "big" else "<")


def _axes(fields: HeaderFields) -> tuple[tuple[int, int, int], list[str]]:
    """Size and direction of the three axes in space; further axes must be of one element."""
    size = fields.integers("sizes")
    if fields.integers("dimension") != [len(size)]:
        raise fields.damaged("dimension")
    directions = re.findall(r"\([^)]*\)|none", fields.text("space directions", " ".join(["()"] * len(size))).lower())
    if len(directions) != len(size):
        raise fields.damaged("space directions")
    spatial = [axis for axis, direction in enumerate(directions) if direction != "none"]
    if len(spatial) > 3:
        spatial = [axis for axis in spatial if size[axis] != 1]
    if len(spatial) != 3 or any(length != 1 for axis, length in enumerate(size) if axis not in spatial):
        words = "×".join(map(str, size))
        raise InputError(f"{fields.where}: size {words}; a scan or label has three dimensions: extract one volume")
    x, y, z = spatial
    return (size[x], size[y], size[z]), [directions[axis] for axis in spatial]


def _grid(fields: HeaderFields, size_xyz: tuple[int, int, int], directions: list[str]) -> Grid:
    space = fields.text("space", "").lower()
    if space not in _TO_LPS or "space directions" not in fields or "space origin" not in fields:
        raise InputError(
            f"{fields.where}: does not say where it lies (space '{space:.30}'; expected left-posterior-superior or "
            "right-anterior-superior, with space directions and space origin); write it with an orientation"
        )
    units = re.findall(r'"([^"]*)"', fields.text("space units", ""))
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        raise InputError(f"{fields.where}: lengths in {units[0]:.20}; write it in mm")
    signs = np.array(_TO_LPS[space], np.float64)
    axes = np.column_stack([_vector(fields, "space directions", words) for words in directions])
    origin = _vector(fields, "space origin", fields["space origin"]) * signs
    return grid_of_axes(fields.where, size_xyz, axes * signs[:, None], origin.tolist())


def _vector(fields: HeaderFields, name: str, words: str) -> NDArray[np.float64]:
    try:
        vector = np.array([float(word) for word in words.strip("()").split(",")], np.float64)
    except ValueError as error:
        raise fields.damaged(name) from error
    if vector.shape != (3,):
        raise fields.damaged(name)
    return vector


def _skip(data: BinaryIO, fields: HeaderFields, promise: Promise, compressed: bool) -> None:
    """Go to where the pixels start; a byte skip of -1 means that they end the file."""
    for _ in range(min(max(fields.integers("line skip", [0])[0], 0), 10_000)):
        data.readline()
    (num_bytes,) = fields.integers("byte skip", [0])[:1] or [0]
    if num_bytes and compressed:
        raise fields.damaged("byte skip")  # it would count bytes inside the compressed data
    start = bytes_left(data) - promise.num_bytes if num_bytes == -1 else num_bytes
    if not 0 <= start <= bytes_left(data):
        raise fields.damaged("byte skip")
    data.seek(start, 1)
