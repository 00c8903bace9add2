"""The cases of a folder, for tests that expect either no problem or a single one."""

from pathlib import Path

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.loading import ScanCase, find_cases
from renalnet.errors import InputError


def sound_cases(src: Path, **options: object) -> list[ScanCase]:
    """Return the cases of a folder.

    Raises:
        InputError: there is a problem; the message is that of the first one.
    """
    found = find_cases(src, KIDNEY_TUMOR, **options)  # type: ignore[arg-type]
    if found.problems:
        raise InputError(str(found.problems[0]))
    return list(found.cases)
