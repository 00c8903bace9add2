"""One DICOM file: whether it is one, and its header, parsed so that no damage gets further than an InputError."""

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
_BARE_STARTS: Final = (b"\x02\x00", b"\x08\x00")
"""Group numbers that files without preamble begin with."""


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, with or without preamble; its name does not matter.

    Raises:
        InputError: it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(_PREAMBLE_BYTES + len(_MAGIC))
    return head[_PREAMBLE_BYTES:] == _MAGIC or (head[:2] in _BARE_STARTS and head[4:6].isalpha())


def parsed(path: Path, take: Callable[["Dataset"], Value], tags: Sequence[str] | None) -> Value:
    """What `take` makes of a file's header; with `tags` none, of the whole file.

    Raises:
        InputError: the file cannot be parsed, or lacks what `take` asks for.
    """
    from pydicom import dcmread

    with refusing(path):
        chosen = None if tags is None else [*tags]
        return take(dcmread(path, force=True, stop_before_pixels=chosen is not None, specific_tags=chosen))


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """While a file's fields are taken: whatever damaged ones raise becomes an InputError, and remarks are kept back.

    The remarks and errors of pydicom quote values; a patient's name may be among them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - what damaged files raise in pydicom has no common base
            # Of the error only the name of a missing field is told, which holds no value.
            lacks = str(error).rsplit("'", 2)[-2] if isinstance(error, AttributeError) and "'" in str(error) else ""
            reason = f"it lacks {lacks}" if lacks.isalpha() else type(error).__name__
            raise InputError(f"{path}: not readable as DICOM ({reason}); copy it again or remove it") from None
