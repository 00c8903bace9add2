"""Whether a file holds all the pixels that its header promises, undamaged: what SimpleITK does not look at.

It takes a file at its word: a truncated NIfTI comes back filled with whatever lay in memory, and neither the
checksums of compressed data nor their ends are compared. So before it reads them the bytes are counted, and compressed
ones inflated to their end and dropped.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import numpy as np

from renalnet.data.images.grid import MAX_VOXELS
from renalnet.errors import InputError

Container: TypeAlias = Literal["raw", "gzip", "zlib"]

_BLOCK_BYTES: Final = 1 << 18
_MAX_TRAILING_BYTES: Final = 1 << 20
"""What may follow the pixels inside compressed data."""


@dataclass(frozen=True)
class Stored:
    """Where and how a file keeps its pixels."""

    path: Path
    """The file with the pixels: of a detached header, its data file."""
    container: Container
    start: int = 0
    """Byte of the file at which its data begin."""
    skip: int = 0
    """Bytes of the data, once inflated, before the pixels."""
    hides: "np.dtype[Any] | None" = None
    """Floating-point type of the voxels, where the library replaces those that are not finite by 0."""


def check_size(where: object, size: Sequence[int]) -> None:
    """Refuse a size (voxels along each axis) that no scan has, before memory is taken for it.

    Raises:
        InputError: an axis is empty, or there are more than `MAX_VOXELS` voxels.
    """
    if min(size) < 1 or prod(size) > MAX_VOXELS:
        raise InputError(f"{where}: size {size_words(size)} is not one of a scan; copy or export it again")


def size_words(size: Sequence[int]) -> str:
    """`512×512×200`."""
    return "×".join(map(str, size))


def check_pixels(where: object, stored: Stored, size: Sequence[int], voxel_bytes: int) -> None:
    """Compare the bytes of a file with the voxels that its header promises; nothing is kept in memory.

    Raises:
        InputError: there are fewer bytes than voxels; compressed data are damaged, cut off or far longer than the
            voxels; or a voxel is not finite where the library would hide that.
    """
    num_promised = prod(size) * voxel_bytes
    if stored.container == "raw" and stored.hides is None:
        num_found = stored.path.stat().st_size - stored.start - stored.skip
    else:
        num_found = _read_through(where, stored, num_promised)
    if num_found < num_promised:
        raise InputError(
            f"{where}: {max(num_found, 0)} bytes of pixels are too few for its size {size_words(size)}; "
            "copy or export it again"
        )


@contextmanager
def open_data(stored: Stored) -> Iterator[BinaryIO]:
    """The bytes of a raw or gzip file from where its data begin, inflated.

    Raises:
        InputError: from any reading, where the compressed data are damaged.
    """
    with stored.path.open("rb") as file, _damage_named(stored):
        file.seek(stored.start)
        yield gzip.GzipFile(fileobj=file) if stored.container == "gzip" else file  # type: ignore[misc]


def _read_through(where: object, stored: Stored, num_promised: int) -> int:
    """The bytes of pixels up to the end of the data, where checksums are compared; of raw data at least so many."""
    num_found = 0
    for block in _blocks(stored):
        if stored.hides is not None and not _are_finite(block[: max(num_promised - num_found, 0)], stored.hides):
            raise InputError(f"{where}: holds values that are not finite; export it again without them")
        num_found += len(block)
        if num_found > num_promised + _MAX_TRAILING_BYTES:
            if stored.container == "raw":
                break
            raise _damaged(stored, "they go on after the pixels")
    return num_found


def _blocks(stored: Stored) -> Iterator[bytes]:
    """The data from the first pixel; all blocks but the last hold `_BLOCK_BYTES`, those of zlib at most so many."""
    if stored.container == "zlib":
        yield from _zlib_blocks(stored)
        return
    with open_data(stored) as data:
        data.read(stored.skip)
        yield from iter(lambda: data.read(_BLOCK_BYTES), b"")


def _zlib_blocks(stored: Stored) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    with stored.path.open("rb") as file, _damage_named(stored):
        file.seek(stored.start)
        while not stream.eof and (block := stream.unconsumed_tail or file.read(_BLOCK_BYTES)):
            yield stream.decompress(block, _BLOCK_BYTES)
    if not stream.eof:
        raise _damaged(stored, "they end early")


def _are_finite(pixels: bytes, dtype: "np.dtype[Any]") -> bool:
    return bool(np.isfinite(np.frombuffer(pixels, dtype, len(pixels) // dtype.itemsize)).all())


@contextmanager
def _damage_named(stored: Stored) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(stored, str(error)) from error


def _damaged(stored: Stored, reason: str) -> InputError:
    return InputError(f"{stored.path}: damaged {stored.container} data ({reason}); copy or export it again")
