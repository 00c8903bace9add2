"""Headers of lines of text, as NRRD and MetaImage have them: the fields, and the numbers in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from renalnet.errors import InputError

_MAX_LINES: Final = 10_000
_MAX_LINE_BYTES: Final = 1 << 16
_SEPARATORS: Final = re.compile(r"[\s,()]+")


class HeaderFields(dict[str, str]):
    """Fields by lower-case name, and the file that they are from."""

    def __init__(self, where: Path) -> None:
        """No fields yet."""
        super().__init__()
        self.where = where

    def damaged(self, name: str) -> InputError:
        """The error to raise for a field that is missing or makes no sense."""
        value = f"{self[name]!r:.60}" if name in self else "missing"
        return InputError(f"{self.where}: not readable as an image (field '{name}' is {value}); export it again")

    def text(self, name: str, default: str | None = None) -> str:
        """A field's words. Raises InputError where it is missing and there is no default."""
        value = self.get(name, default)
        if value is None:
            raise self.damaged(name)
        return value

    def floats(self, name: str, default: Sequence[float] | None = None) -> list[float]:
        """A field's numbers. Raises InputError."""
        if name not in self and default is not None:
            return list(default)
        try:
            return [float(word) for word in _SEPARATORS.split(self.text(name)) if word]
        except ValueError as error:
            raise self.damaged(name) from error

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A field's whole numbers. Raises InputError."""
        if name not in self and default is not None:
            return list(default)
        try:
            return [int(word) for word in self.text(name).split()]
        except ValueError as error:
            raise self.damaged(name) from error

    def beside(self, name: str) -> Path:
        """The file that a field names, which must lie in the header's own folder. Raises InputError."""
        file = self.where.parent / Path(self.text(name)).name
        if Path(self.text(name)).name != self.text(name).removeprefix("./") or not file.is_file():
            raise self.damaged(name)
        return file


def header_lines(file: BinaryIO, last_field: str = "") -> list[str]:
    """The lines up to an empty one, or up to and with the one of `last_field`; the file then stands behind it."""
    lines: list[str] = []
    while len(lines) < _MAX_LINES and (line := file.readline(_MAX_LINE_BYTES)):
        text = line.decode("latin-1").strip()
        if not text:
            break
        lines.append(text)
        if last_field and text.lower().startswith(last_field):
            break
    return lines
