"""Names of cases. Files and folders of results are named by them, so a name is one part of a path and nothing else."""

from typing import Final

MAX_BYTES: Final = 180
"""Length of the longest name in UTF-8. With the endings of our files it stays below the 255 bytes of a file name."""
FIRST_CHANNEL: Final = "0000"
"""Number that nnU-Net appends to the name of a case's first (and, for CT, only) image: `CASE_0000.nii.gz`."""


def name_fault(name: str) -> str | None:
    """Return why a text cannot name a case or a file, or None if it can.

    A name has 1 to `MAX_BYTES` bytes of printable characters, contains no slash or backslash, and neither begins with a
    dot nor begins or ends with a space. It therefore never leads out of the folder that it is joined to.
    """
    if not name or len(name.encode("utf-8", "replace")) > MAX_BYTES:
        return f"a name has 1 to {MAX_BYTES} bytes"
    if "/" in name or "\\" in name or not name.isprintable():
        return "a name has no slash, backslash or control character"
    if name.startswith(".") or name != name.strip():
        return "a name does not begin with a dot, and has no space at its ends"
    return None
