"""Headers of NRRD and MetaImage files: the location of the pixels, and fields that SimpleITK does not require.

SimpleITK fills gaps with defaults, so that a file without an orientation is read with one. The formats follow the
definition of NRRD (teem.sourceforge.net/nrrd) and the fields that ITK documents for MetaImage.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import BinaryIO, Final

from renalnet.data.images.integrity import Container, PixelStorage
from renalnet.errors import InputError

# A damaged header may have no end; these limits bound the memory and the time that it can take.
_MAX_LINES: Final = 10_000
_MAX_LINE_BYTES: Final = 1 << 16
_SEPARATORS: Final = re.compile(r"[\s,()]+")
_NRRD_MAGIC: Final = re.compile(r"NRRD000[1-6]")
_SPACES: Final = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las")
_MILLIMETRES: Final = frozenset(("mm", "millimeter", "millimetre"))
_ALIASES: Final = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
_SLOPE: Final = "ElementToIntensityFunctionSlope"
_INTERCEPT: Final = "ElementToIntensityFunctionOffset"
_NUMBERS_OF_AXES: Final = {
    **dict.fromkeys(("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
"""MetaImage fields with one number for each axis (exponent 1), or for each pair of axes (exponent 2)."""
_NRRD_CONTAINERS: Final[dict[str, Container]] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}


@dataclass(frozen=True)
class HeaderFields:
    """The fields of a text header."""

    path: Path
    """File that contains the header."""
    values: dict[str, str]
    end: int
    """Offset of the first byte after the header."""

    def damaged(self, name: str) -> InputError:
        """Return the error for a field that is missing or invalid."""
        value = f"{self.values[name]!r:.60}" if name in self.values else "missing"
        return InputError(f"{self.path}: not readable as an image (field '{name}' is {value}); export it again")

    def integer(self, name: str) -> int:
        """Return a field's integer, or 0 if the field is missing.

        Raises:
            InputError: the value is not an integer.
        """
        try:
            return int(self.values.get(name, "0"))
        except ValueError as error:
            raise self.damaged(name) from error

    def numbers(self, name: str) -> list[float]:
        """Return a field's numbers, or an empty list if the field is missing.

        Raises:
            InputError: a value is not a finite number.
        """
        words = _SEPARATORS.split(self.values.get(name, ""))
        try:
            numbers = [float(word) for word in words if word not in ("", "none")]
        except ValueError as error:
            raise self.damaged(name) from error
        if not all(map(isfinite, numbers)):
            raise self.damaged(name)
        return numbers

    def flag(self, name: str, default: str = "False") -> bool:
        """Whether a field is true.

        Raises:
            InputError: the value is neither true nor false.
        """
        value = self.values.get(name, default).lower()
        if value not in ("true", "false", "1", "0"):
            raise self.damaged(name)
        return value in ("true", "1")

    def pixel_storage(self, name: str, container: Container, skip: int) -> PixelStorage:
        """Return the storage of the pixels: after the header, or in the data file that the field `name` states.

        Args:
            name: field with the name of the data file. If it is missing, the pixels follow the header.
            container: compression of the data.
            skip: number of bytes before raw pixels; -1 if the pixels are the last bytes of their file.

        Raises:
            InputError: the data file does not exist or is in another folder.
        """
        data_file = self.values.get(name)
        if data_file is None:
            # Pixels at the end of a file (-1) need no offset: they are complete if enough bytes follow the header.
            return PixelStorage(self.path, container, self.end, max(skip, 0))
        file = self.path.parent / Path(data_file).name
        # A header must not make the program read a file outside its own folder.
        if Path(data_file).name != data_file.removeprefix("./") or not file.is_file():
            raise self.damaged(name)
        return PixelStorage(file, container, 0, max(skip, 0))


def nrrd_pixels(path: Path) -> PixelStorage:
    """Return the storage of the pixels of an NRRD file.

    Raises:
        InputError: the file is not NRRD, its pixels are neither raw nor gzip, or it contains no orientation in mm.
    """
    fields = _nrrd_fields(path)
    encoding = fields.values.get("encoding", "").lower()
    if encoding not in _NRRD_CONTAINERS:
        raise InputError(f"{path}: NRRD encoding '{encoding:.20}' is not supported; save it with encoding raw or gzip")
    _check_nrrd_orientation(fields)
    container = _NRRD_CONTAINERS[encoding]
    skip = fields.integer("byte skip")
    # With compression, the skipped bytes would be counted inside the compressed data.
    if skip < -1 or (skip and container != "raw"):
        raise fields.damaged("byte skip")
    if fields.integer("line skip"):
        raise fields.damaged("line skip")
    return fields.pixel_storage("data file", container, skip)


def metaimage_pixels(path: Path) -> PixelStorage:
    """Return the storage of the pixels of a MetaImage file.

    Raises:
        InputError: the file is not MetaImage, its pixels are text or need rescaling, or it contains no spacing.
    """
    fields = _metaimage_fields(path)
    _check_metaimage_values(fields)
    _check_metaimage_geometry(fields)
    is_local = fields.values["ElementDataFile"].upper() == "LOCAL"
    compressed = fields.flag("CompressedData")
    skip = fields.integer("HeaderSize")
    if skip < -1 or (skip and compressed) or (skip > 0 and is_local):
        raise fields.damaged("HeaderSize")
    storage = fields.pixel_storage("" if is_local else "ElementDataFile", "zlib" if compressed else "raw", skip)
    # SimpleITK inflates as many bytes as the field states, and ignores a failure.
    if compressed and fields.integer("CompressedDataSize") != storage.path.stat().st_size - storage.start:
        raise fields.damaged("CompressedDataSize")
    return storage


def _check_metaimage_values(fields: HeaderFields) -> None:
    """Refuse pixels that are not stored as the values themselves."""
    if not fields.flag("BinaryData", "True"):
        raise InputError(f"{fields.path}: its pixels are text; save it as binary data")
    # SimpleITK ignores these two fields.
    if fields.numbers(_SLOPE) not in ([], [1.0]) or fields.numbers(_INTERCEPT) not in ([], [0.0]):
        raise InputError(f"{fields.path}: its values need rescaling (slope, offset); save it as CT numbers")


def _check_nrrd_orientation(fields: HeaderFields) -> None:
    """Require the fields that SimpleITK would replace by the identity."""
    values = fields.values
    if values.get("space", "").lower() not in _SPACES or not {"space directions", "space origin"} <= values.keys():
        raise InputError(
            f"{fields.path}: contains no orientation (space LPS, RAS or LAS with directions and origin), so left and "
            "right are unknown; write it with an orientation"
        )
    for name, count in (("space directions", 9), ("space origin", 3)):
        if len(fields.numbers(name)) != count:
            raise fields.damaged(name)
    units = re.findall(r'"([^"]*)"', values.get("space units", ""))
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        raise InputError(f"{fields.path}: unit of length {units[0]:.20} must be mm; write it in mm")


def _check_metaimage_geometry(fields: HeaderFields) -> None:
    """Require complete fields: SimpleITK replaces missing numbers by defaults."""
    num_axes = len(fields.numbers("DimSize"))
    if fields.integer("NDims") != num_axes:
        raise fields.damaged("NDims")
    if not fields.values.keys() & {"ElementSpacing", "ElementSize"}:
        raise fields.damaged("ElementSpacing")
    for name, exponent in _NUMBERS_OF_AXES.items():
        if name in fields.values and len(fields.numbers(name)) != num_axes**exponent:
            raise fields.damaged(name)
    for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        fields.flag(name)


def nrrd_pairs(path: Path) -> dict[str, str]:
    """Return the key/value pairs (`key:=value`) of an NRRD header, in UTF-8 where it is valid.

    The last value counts where a key is repeated.

    Raises:
        InputError: the file is not NRRD.
    """
    return dict(_nrrd_pairs(path))


def repeated_nrrd_keys(path: Path) -> list[str]:
    """Return the keys of the pairs that an NRRD header states more than once. Raises InputError as `nrrd_pairs`."""
    counts = Counter(key for key, _ in _nrrd_pairs(path))
    return [key for key, count in counts.items() if count > 1]


def _nrrd_pairs(path: Path) -> list[tuple[str, str]]:
    with path.open("rb") as file:
        found = (line.partition(":=") for line in _nrrd_lines(file, path))
        return [(key, _unescaped(value)) for key, separator, value in found if separator]


def _unescaped(value: str) -> str:
    try:
        text = value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        text = value
    return text.replace("\\n", "\n").replace("\\\\", "\\")


def _nrrd_fields(path: Path) -> HeaderFields:
    values: dict[str, str] = {}
    with path.open("rb") as file:
        for line in _nrrd_lines(file, path):
            # The space after the colon tells a field from a key/value pair (`key:=value`).
            name, colon, value = line.partition(": ")
            if colon and ":=" not in name:
                values[_ALIASES.get(name.strip().lower(), name.strip().lower())] = value.strip()
        return HeaderFields(path, values, file.tell())


def _nrrd_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines of a header without comments; the file is then at the first byte after the header."""
    if not _NRRD_MAGIC.fullmatch(_line(file)):
        raise _no_header(path, "an NRRD")
    for _ in range(_MAX_LINES):
        if not (line := _line(file)):
            return
        if not line.startswith("#"):
            yield line


def _metaimage_fields(path: Path) -> HeaderFields:
    """Return the fields by their exact names. As in SimpleITK, another spelling is another field."""
    values: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            name, equals, value = (part.strip() for part in _line(file).partition("="))
            if not equals:
                break
            if name in values:
                raise InputError(
                    f"{path}: not readable as an image (field '{name:.40}' appears twice); export it again"
                )
            values[name] = value
            # This field is the last one of a header. The pixels may follow it.
            if name == "ElementDataFile":
                return HeaderFields(path, values, file.tell())
    raise _no_header(path, "a MetaImage")


def _line(file: BinaryIO) -> str:
    # latin-1 decodes every byte, so a binary file is reported as one without a header.
    return file.readline(_MAX_LINE_BYTES).decode("latin-1").strip()


def _no_header(path: Path, kind: str) -> InputError:
    return InputError(f"{path}: not readable as an image (no header of {kind} file); replace or remove it")
