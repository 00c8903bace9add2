"""Where NRRD and MetaImage files keep their pixels, and whether their headers say what SimpleITK would make up.

It fills gaps with defaults, so a file without an orientation comes back with one. After the definition of NRRD
(teem.sourceforge.net/nrrd) and the fields that ITK documents for MetaImage; NIfTI is in `nifti_header`.
"""

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import BinaryIO, Final

from renalnet.data.images.integrity import Container, Stored
from renalnet.errors import InputError

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
"""Fields of MetaImage with one number an axis, and with one a pair of axes."""
_NRRD_CONTAINERS: Final[dict[str, Container]] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}


@dataclass(frozen=True)
class Fields:
    """The fields of a header of text."""

    path: Path
    """The header's file."""
    values: dict[str, str]
    end: int
    """Byte of the file behind the header."""

    def damaged(self, name: str) -> InputError:
        """The error to raise for a field that is missing or makes no sense."""
        value = f"{self.values[name]!r:.60}" if name in self.values else "missing"
        return InputError(f"{self.path}: not readable as an image (field '{name}' is {value}); export it again")

    def whole(self, name: str) -> int:
        """A field's whole number, 0 where it is missing. Raises InputError."""
        try:
            return int(self.values.get(name, "0"))
        except ValueError as error:
            raise self.damaged(name) from error

    def numbers(self, name: str) -> list[float]:
        """A field's numbers, none where it is missing. Raises InputError, also where one is not finite."""
        words = _SEPARATORS.split(self.values.get(name, ""))
        try:
            numbers = [float(word) for word in words if word not in ("", "none")]
        except ValueError as error:
            raise self.damaged(name) from error
        if not all(map(isfinite, numbers)):
            raise self.damaged(name)
        return numbers

    def flag(self, name: str, default: str = "False") -> bool:
        """Whether a field says true. Raises InputError."""
        value = self.values.get(name, default).lower()
        if value not in ("true", "false", "1", "0"):
            raise self.damaged(name)
        return value in ("true", "1")

    def stored(self, name: str, container: Container, skip: int) -> Stored:
        """The pixels behind the header, or in the file that a field names, which must lie in the same folder.

        `skip` bytes come before raw pixels; -1 means that they end their file. Raises InputError.
        """
        beside = self.values.get(name)
        if beside is None:
            return Stored(self.path, container, self.end, max(skip, 0))
        file = self.path.parent / Path(beside).name
        if Path(beside).name != beside.removeprefix("./") or not file.is_file():
            raise self.damaged(name)
        return Stored(file, container, 0, max(skip, 0))


def nrrd_pixels(path: Path) -> Stored:
    """Where an NRRD file keeps its pixels.

    Raises:
        InputError: it is no NRRD file, its pixels are neither raw nor gzip, or it does not say where it lies in mm.
    """
    fields = _nrrd_fields(path)
    encoding = fields.values.get("encoding", "").lower()
    if encoding not in _NRRD_CONTAINERS:
        raise InputError(f"{path}: NRRD encoding '{encoding:.20}' is not read here; save it with encoding raw or gzip")
    _check_nrrd_place(fields)
    container, skip = _NRRD_CONTAINERS[encoding], fields.whole("byte skip")
    if skip < -1 or (skip and container != "raw"):
        raise fields.damaged("byte skip")  # it would count bytes inside the compressed data
    if fields.whole("line skip"):
        raise fields.damaged("line skip")
    return fields.stored("data file", container, skip)


def metaimage_pixels(path: Path) -> Stored:
    """Where a MetaImage file keeps its pixels.

    Raises:
        InputError: it is no MetaImage file, its pixels are text or to be rescaled, or it states no spacing.
    """
    fields = _metaimage_fields(path)
    values = fields.values
    if not fields.flag("BinaryData", "True"):
        raise InputError(f"{path}: its pixels are text; save it as binary data")
    if fields.numbers(_SLOPE) not in ([], [1.0]) or fields.numbers(_INTERCEPT) not in ([], [0.0]):
        raise InputError(f"{path}: its values are to be rescaled; save it as CT numbers")
    _check_metaimage_place(fields)
    is_local = values["ElementDataFile"].upper() == "LOCAL"
    compressed, skip = fields.flag("CompressedData"), fields.whole("HeaderSize")
    if skip < -1 or (skip and compressed) or (skip > 0 and is_local):
        raise fields.damaged("HeaderSize")
    stored = fields.stored("" if is_local else "ElementDataFile", "zlib" if compressed else "raw", skip)
    if compressed and fields.whole("CompressedDataSize") != stored.path.stat().st_size - stored.start:
        raise fields.damaged("CompressedDataSize")  # the library inflates that many bytes and ignores failure
    return stored


def _check_nrrd_place(fields: Fields) -> None:
    """The library takes the identity where a header does not say."""
    values = fields.values
    if values.get("space", "").lower() not in _SPACES or not {"space directions", "space origin"} <= values.keys():
        raise InputError(
            f"{fields.path}: does not say where it lies (no space of LPS, RAS or LAS with directions and origin), so "
            "left and right are unknown; write it with an orientation"
        )
    for name, count in (("space directions", 9), ("space origin", 3)):
        if len(fields.numbers(name)) != count:
            raise fields.damaged(name)
    units = re.findall(r'"([^"]*)"', values.get("space units", ""))
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        raise InputError(f"{fields.path}: lengths in {units[0]:.20}; write it in mm")


def _check_metaimage_place(fields: Fields) -> None:
    """The library reads as many numbers as it can and makes up the others."""
    num_axes = len(fields.numbers("DimSize"))
    if fields.whole("NDims") != num_axes:
        raise fields.damaged("NDims")
    if not fields.values.keys() & {"ElementSpacing", "ElementSize"}:
        raise fields.damaged("ElementSpacing")
    for name, power in _NUMBERS_OF_AXES.items():
        if name in fields.values and len(fields.numbers(name)) != num_axes**power:
            raise fields.damaged(name)
    for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        fields.flag(name)


def _nrrd_fields(path: Path) -> Fields:
    values: dict[str, str] = {}
    with path.open("rb") as file:
        if not _NRRD_MAGIC.fullmatch(_line(file)):
            raise _no_header(path, "an NRRD")
        for _ in range(_MAX_LINES):
            if not (line := _line(file)):
                break
            name, colon, value = line.partition(": ")
            if colon and not line.startswith("#"):
                values[_ALIASES.get(name.strip().lower(), name.strip().lower())] = value.strip()
        return Fields(path, values, file.tell())


def _metaimage_fields(path: Path) -> Fields:
    """Names are taken as they stand, as the library does: another spelling is another field."""
    values: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            name, equals, value = (part.strip() for part in _line(file).partition("="))
            if not equals:
                break
            if name in values:
                raise InputError(f"{path}: not readable as an image (field '{name:.40}' comes twice); export it again")
            values[name] = value
            if name == "ElementDataFile":
                return Fields(path, values, file.tell())
    raise _no_header(path, "a MetaImage")


def _line(file: BinaryIO) -> str:
    return file.readline(_MAX_LINE_BYTES).decode("latin-1").strip()


def _no_header(path: Path, kind: str) -> InputError:
    return InputError(f"{path}: not readable as an image (no header of {kind} file); replace or remove it")
