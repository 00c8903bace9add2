"""A single DICOM file: its detection and its parsing. Every damage is reported as an InputError."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from renalnet.errors import InputError
from renalnet.runtime.storage import reading

if TYPE_CHECKING:
    from pydicom import Dataset

Value = TypeVar("Value")

_PREAMBLE_BYTES: Final = 128
_MAGIC: Final = b"DICM"
_LIBRARIES: Final = ("pydicom", "highdicom")
_ENDING: Final = ".dcm"
_HEAD_BYTES: Final = 1024
_BARE_GROUPS: Final = (2, 8)
"""Groups of the first element of files without the preamble: file meta information, or else identification."""
_BARE_STARTS: Final = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
"""These groups in little and in big endian."""
_LEAST_ELEMENTS: Final = 3
"""Elements in rising order at the start of a file that is taken for DICOM although nothing marks it."""


def is_dicom(path: Path) -> bool:
    """Whether a file starts like a DICOM file, with or without preamble and file meta information.

    Its name is ignored. Old archives and planning systems write data sets alone (DICOM PS3.10, section 7.1, requires
    preamble and file meta information).

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_MAGIC)] == _MAGIC or _starts_with_elements(head)


def has_dicom_ending(path: Path) -> bool:
    """Whether a file is DICOM by its name, whatever it contains."""
    return path.suffix.lower() == _ENDING


def _starts_with_elements(head: bytes) -> bool:
    if head[:2] not in _BARE_STARTS:
        return False
    # With an explicit value representation, its two letters are at bytes 4 and 5.
    return head[4:6].isalpha() or _num_implicit_elements(head) >= _LEAST_ELEMENTS


def _num_implicit_elements(head: bytes) -> int:
    """Return the number of elements of implicit value representation at the start of a file, up to an unlikely one.

    An element is its group, its number and the length of its value, in little endian (DICOM PS3.5, section 7.1.3).
    """
    count = offset = 0
    before = (0, -1)
    while len(head) >= offset + 8:
        tag = (
            int.from_bytes(head[offset : offset + 2], "little"),
            int.from_bytes(head[offset + 2 : offset + 4], "little"),
        )
        length = int.from_bytes(head[offset + 4 : offset + 8], "little")
        # Values have an even length. The first elements are short, and a sequence ends the search.
        if not (before < tag and tag[0] in _BARE_GROUPS and length % 2 == 0 and length < _HEAD_BYTES):
            break
        before = tag
        count += 1
        offset += 8 + length
    return count


def read_dicom(path: Path, extract: Callable[["Dataset"], Value], tags: Sequence[str] | None) -> Value:
    """Return what `extract` returns for the dataset of a file.

    Args:
        path: the file.
        extract: called with the dataset. Its errors are reported as damage of the file.
        tags: fields of the header to parse, without pixels; None parses the whole file.

    Raises:
        InputError: the file cannot be parsed, or lacks a field that `extract` needs.
    """
    from pydicom import dcmread

    with dicom_errors_reported(path):
        chosen = None if tags is None else [*tags]
        dataset = dcmread(path, force=True, stop_before_pixels=chosen is not None, specific_tags=chosen)
        _complete_syntax(path, dataset)
        # pydicom parses a value when it is first used, so `extract` must run inside this block.
        return extract(dataset)


def _complete_syntax(path: Path, dataset: "Dataset") -> None:
    """State the transfer syntax of a file without file meta information, as pydicom has found it by the first element.

    Raises:
        InputError: the pixels are compressed, and only the file meta information could state how.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" in dataset.file_meta:
        return
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise InputError(
            f"{path}: its pixels are compressed, but it has no file meta information that states how; export it again "
            "as a DICOM file (part 10)"
        )
    is_implicit, is_little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit


@contextmanager
def dicom_errors_reported(path: Path) -> Iterator[None]:
    """Turn any error inside the block into an InputError, and suppress warnings and log lines.

    The warnings and errors of pydicom quote values, which may contain a patient's name. The message therefore states
    only the name of a missing field or the type of the error, and the original error is not chained.
    """
    with quiet_libraries():
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - what damaged files raise in pydicom has no common base class
            raise InputError(f"{path}: not readable as DICOM ({_reason(error)}); copy it again or remove it") from None


def _reason(error: Exception) -> str:
    # pydicom raises "'Dataset' object has no attribute 'Rows'" for a missing field.
    quoted = str(error).rsplit("'", 2) if isinstance(error, AttributeError) else []
    field = quoted[-2] if len(quoted) > 1 else ""
    # Keywords of DICOM fields consist of letters. Anything else could be a value.
    return f"it lacks {field}" if field.isalpha() else type(error).__name__


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress the warnings and the log lines of pydicom and highdicom, which may quote a patient's name."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
