"""Pixels as a header promises them: their number is checked before memory is taken, checksums while reading.

General readers take a file at its word: a truncated NIfTI comes back filled with whatever lay in memory, and the
checksums of compressed data are not looked at. So the files are read here, in one pass.
"""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.data.grid import MAX_VOXELS
from renalnet.errors import InputError

Container: TypeAlias = Literal["gzip", "zlib"]

_WINDOW_BITS: Final[dict[Container, int]] = {"gzip": 31, "zlib": 15}
_BLOCK_BYTES: Final = 1 << 18
_MAX_TRAILING_BYTES: Final = 1 << 20
"""What may follow the pixels inside compressed data."""
_DEFLATE_MAX_RATIO: Final = 1032
"""No deflated byte stands for more (zlib's technical note)."""


class Source(Protocol):
    """Bytes in order: an open file, or an `Inflated` one."""

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes; fewer only at the end."""

    def readinto(self, target: memoryview, /) -> int:
        """Fill `target`; the number of bytes, smaller only at the end."""


class Inflated:
    """The bytes that a gzip or zlib stream holds.

    Raises:
        InputError: from any reading, where the stream is damaged.
    """

    def __init__(self, file: BinaryIO, container: Container) -> None:
        """Read on from where `file` stands."""
        self._file = file
        self._container = container
        self._stream = zlib.decompressobj(_WINDOW_BITS[container])

    def readinto(self, target: memoryview) -> int:
        """Fill `target`; the number of bytes, smaller only at the end."""
        filled = 0
        while filled < len(target) and (block := self._inflate(len(target) - filled)):
            target[filled : filled + len(block)] = block
            filled += len(block)
        return filled

    def read(self, count: int) -> bytes:
        """At most `count` bytes; fewer only at the end."""
        target = bytearray(count)
        return bytes(target[: self.readinto(memoryview(target))])

    def finish(self) -> None:
        """Read to the end, so that the stream's checksum is compared. Raises InputError."""
        if len(self.read(_MAX_TRAILING_BYTES)) == _MAX_TRAILING_BYTES:
            raise self._damaged("it goes on after the pixels")
        if not self._stream.eof:
            raise self._damaged("it ends early")

    def _inflate(self, limit: int) -> bytes:
        """One to `limit` bytes; none at the end."""
        while not self._at_end():
            data = self._stream.unconsumed_tail or self._file.read(_BLOCK_BYTES)
            try:
                block = self._stream.decompress(data, limit)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
            if block or not data:
                return block
        return b""

    def _at_end(self) -> bool:
        """Whether the last member has ended; a gzip file may hold several, one after the other."""
        if not self._stream.eof:
            return False
        rest = self._stream.unused_data or self._file.read(_BLOCK_BYTES)
        if self._container != "gzip" or not rest.startswith(b"\x1f\x8b"):
            return True
        self._file.seek(-len(rest), os.SEEK_CUR)
        self._stream = zlib.decompressobj(_WINDOW_BITS["gzip"])
        return False

    def _damaged(self, reason: str) -> InputError:
        return InputError(f"{self._file.name}: damaged {self._container} data ({reason}); copy or export it again")


@dataclass(frozen=True)
class Promise:
    """What a header says of the pixels that follow."""

    where: str
    """The file, for messages."""
    size: Sequence[int]
    """Numbers of voxels, fastest axis first."""
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        """Of the pixels, uncompressed."""
        return prod(self.size) * self.dtype.itemsize

    def check(self, num_stored: int, *, compressed: bool) -> None:
        """Compare with the bytes that are stored, before any memory is taken. Raises InputError."""
        words = "×".join(map(str, self.size))
        if not all(1 <= length <= MAX_VOXELS for length in self.size) or prod(self.size) > MAX_VOXELS:
            raise InputError(f"{self.where}: size {words} is not one of a scan; copy or export it again")
        room = num_stored * _DEFLATE_MAX_RATIO if compressed else num_stored
        if self.num_bytes > room:
            raise InputError(
                f"{self.where}: {num_stored} bytes of pixels are too few for its size {words}; copy or export it again"
            )

    def read(self, source: Source) -> NDArray[Any]:
        """The pixels, in the machine's byte order; axes slowest first. Raises InputError."""
        array = np.empty(tuple(reversed(self.size)), self.dtype)
        num_read = source.readinto(array.reshape(-1).view(np.uint8).data)
        if num_read < self.num_bytes:
            raise InputError(
                f"{self.where}: ends after {num_read} of {self.num_bytes} bytes of pixels; copy or export it again"
            )
        if isinstance(source, Inflated):
            source.finish()
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def bytes_left(file: BinaryIO) -> int:
    """From where `file` stands to its end."""
    return os.fstat(file.fileno()).st_size - file.tell()


def three_dimensional(where: str, size: Sequence[int]) -> tuple[int, int, int]:
    """The first three of `size`, where all others are 1. Raises InputError."""
    if len(size) < 3 or any(length != 1 for length in size[3:]):
        words = "×".join(map(str, size))
        raise InputError(f"{where}: size {words}; a scan or label has three dimensions: extract one volume of it")
    return size[0], size[1], size[2]
