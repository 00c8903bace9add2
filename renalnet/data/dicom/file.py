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
_BARE_STARTS: Final = (b"\x02\x00", b"\x08\x00")
"""Group numbers at the start of files that were written without the preamble."""


def is_dicom(path: Path) -> bool:
    """Whether a file starts like a DICOM file, with or without the preamble. Its name is ignored.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(_PREAMBLE_BYTES + len(_MAGIC))
    # Without the preamble, the first element has its two-letter value representation at bytes 4 and 5.
    return head[_PREAMBLE_BYTES:] == _MAGIC or (head[:2] in _BARE_STARTS and head[4:6].isalpha())


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
        # pydicom parses a value when it is first used, so `extract` must run inside this block.
        return extract(dcmread(path, force=True, stop_before_pixels=chosen is not None, specific_tags=chosen))


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
