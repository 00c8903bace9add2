"""Checks that a file contains all the pixel data that its header promises, undamaged; the pixels of NIfTI files.

SimpleITK does not check this. It ignores the checksum and the length of compressed data (observed with SimpleITK
2.5.7). These checks therefore count the bytes of a file before SimpleITK reads it. Compressed data are inflated to
their end and discarded.
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
from numpy.typing import NDArray

from renalnet.data.images.grid import MAX_VOXELS
from renalnet.errors import InputError
from renalnet.runtime.machine import memory_bytes
from renalnet.types import Shape

Container: TypeAlias = Literal["raw", "gzip", "zlib"]

_BLOCK_BYTES: Final = 1 << 18
_GB: Final = 1 << 30
_HU_BYTES: Final = 2
"""Bytes of a voxel of int16 HU."""
_MAX_TRAILING_BYTES: Final = 1 << 12
"""Number of bytes that may follow the pixels, as padding. More are pixels of a size that the header does not state.

It also bounds the work for a decompression bomb.
"""


@dataclass(frozen=True)
class PixelStorage:
    """Where and how a file stores its pixels."""

    path: Path
    """File with the pixels. For a detached header, the data file."""
    container: Container
    start: int = 0
    """Offset of the data in the file, in bytes."""
    skip: int = 0
    """Number of bytes of the inflated data that precede the pixels."""


def check_size(where: object, size: Sequence[int]) -> None:
    """Check the size of an image, in voxels along each axis, before memory is allocated for it.

    Raises:
        InputError: an axis is empty, or there are more than `MAX_VOXELS` voxels.
    """
    if min(size) < 1 or prod(size) > MAX_VOXELS:
        rule = f"is not the size of a scan (1 to {MAX_VOXELS} voxels)"
        raise InputError(f"{where}: size {format_size(size)} {rule}; copy or export it again")


def check_memory(where: object, size: Sequence[int], voxel_bytes: int) -> None:
    """Check that an image fits into memory, before any of it is read.

    Args:
        where: name of the image in error messages.
        size: number of voxels along each axis.
        voxel_bytes: size of a stored voxel in bytes.

    Raises:
        InputError: the image needs more memory than this process may use.
    """
    # The stored voxels, a copy of them that is scaled or clipped, and the CT numbers.
    needed_gb = prod(size) * (2 * voxel_bytes + _HU_BYTES) / _GB
    limit_gb = memory_bytes() / _GB
    if needed_gb > limit_gb:
        raise InputError(
            f"{where}: size {format_size(size)} needs about {needed_gb:.1f} GiB of memory, more than the "
            f"{limit_gb:.1f} GiB of this process; crop or resample the image, or use a node with more memory"
        )


def format_size(size: Sequence[int]) -> str:
    """Return a size in the form `512×512×200`."""
    return "×".join(map(str, size))


def check_pixels(where: object, storage: PixelStorage, size: Sequence[int], voxel_bytes: int) -> None:
    """Compare the number of stored bytes with the number of voxels in the header. Memory use is constant.

    Args:
        where: name of the image in error messages.
        storage: where and how the pixels are stored.
        size: number of voxels along each axis.
        voxel_bytes: size of a voxel in bytes.

    Raises:
        InputError: there are fewer bytes than voxels, or far more; or compressed data are damaged or truncated.
    """
    num_promised = prod(size) * voxel_bytes
    # Raw data have no checksum. Only their length can be checked, which needs no reading.
    if storage.container == "raw":
        num_found = _num_raw(storage)
    else:
        num_found = sum(map(len, _checked_blocks(storage, num_promised)))
    _check_length(where, size, num_found, num_promised)


def read_pixels(where: object, storage: PixelStorage, shape: Shape, dtype: "np.dtype[Any]") -> NDArray[Any]:
    """Return the pixels of a file of raw or gzip data, in the byte order of the machine, (z, y, x).

    Args:
        where: name of the image in error messages.
        storage: where and how the pixels are stored.
        shape: voxels along each axis, (z, y, x).
        dtype: type and byte order of the stored voxels.

    Raises:
        InputError: as `check_pixels`, or a voxel is not finite.
    """
    num_promised = prod(shape) * dtype.itemsize
    if storage.container == "raw":
        # Before memory is allocated. A compressed file may hold a thousand times its own size.
        _check_length(where, shape[::-1], _num_raw(storage), num_promised)
    content = bytearray()
    for block in _checked_blocks(storage, num_promised):
        content += block[: max(num_promised - len(content), 0)]
    _check_length(where, shape[::-1], len(content), num_promised)
    pixels = np.frombuffer(content, dtype).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{where}: holds values that are not finite; export it again without them")
    return pixels if dtype.isnative else pixels.astype(dtype.newbyteorder("="))


def _num_raw(storage: PixelStorage) -> int:
    return storage.path.stat().st_size - storage.start - storage.skip


def _check_length(where: object, size: Sequence[int], num_found: int, num_promised: int) -> None:
    if num_found < num_promised:
        raise InputError(
            f"{where}: {max(num_found, 0)} bytes of pixels are too few for its size {format_size(size)}; "
            "copy or export it again"
        )
    if num_found > num_promised + _MAX_TRAILING_BYTES:
        surplus = num_found - num_promised
        raise InputError(
            f"{where}: {surplus} bytes follow the pixels of its size {format_size(size)}, so its header states too few "
            "voxels; copy or export it again"
        )


@contextmanager
def open_data(storage: PixelStorage) -> Iterator[BinaryIO]:
    """Open the inflated bytes of a raw or gzip file, from the start of its data.

    Raises:
        InputError: on any read, if the compressed data are damaged.
    """
    with storage.path.open("rb") as file, _damage_reported(storage):
        file.seek(storage.start)
        # A gzip file may have several members. GzipFile reads all of them; a zlib decompressor stops after the first.
        yield gzip.GzipFile(fileobj=file) if storage.container == "gzip" else file  # type: ignore[misc]


def _checked_blocks(storage: PixelStorage, num_promised: int) -> Iterator[bytes]:
    """Yield the pixels and what follows them.

    Compressed data are read to their end, where zlib and gzip compare the checksum. Reading of raw data stops once
    more than `num_promised` bytes were found.
    """
    num_found = 0
    for block in _blocks(storage):
        yield block
        num_found += len(block)
        if storage.container == "raw" and num_found >= num_promised:
            return
        if num_found > num_promised + _MAX_TRAILING_BYTES:
            raise _damaged(storage, "the data continue after the pixels")


def _blocks(storage: PixelStorage) -> Iterator[bytes]:
    """Yield the data from the first pixel, in blocks of at most `_BLOCK_BYTES`."""
    if storage.container == "zlib":
        yield from _zlib_blocks(storage)
        return
    with open_data(storage) as data:
        data.read(storage.skip)
        yield from iter(lambda: data.read(_BLOCK_BYTES), b"")


def _zlib_blocks(storage: PixelStorage) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    with storage.path.open("rb") as file, _damage_reported(storage):
        file.seek(storage.start)
        # `decompress` returns at most one block and keeps the rest of its input in `unconsumed_tail`.
        while not stream.eof and (block := stream.unconsumed_tail or file.read(_BLOCK_BYTES)):
            yield stream.decompress(block, _BLOCK_BYTES)
    if not stream.eof:
        raise _damaged(storage, "the data end early")


@contextmanager
def _damage_reported(storage: PixelStorage) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(storage, str(error)) from error


def _damaged(storage: PixelStorage, reason: str) -> InputError:
    return InputError(f"{storage.path}: damaged {storage.container} data ({reason}); copy or export it again")
