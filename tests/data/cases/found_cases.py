"""The cases of a folder for tests that expect them all to be sound, or one problem."""

from pathlib import Path

from renalnet.data.cases.loading import ScanCase, find_layout
from renalnet.errors import InputError


def find_cases(src: Path, **how: object) -> list[ScanCase]:
    """The cases; the first problem is an InputError."""
    found = find_layout(src, **how)  # type: ignore[arg-type]
    if found.problems:
        raise InputError(str(found.problems[0]))
    return list(found.cases)
