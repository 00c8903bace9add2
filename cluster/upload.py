"""The size of the upload of `ray job submit`, and whether the head accepts it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster.ray_private import UPLOAD_LIMIT_BYTES, visit_packed
from renalnet.errors import ClusterError

MIB: Final = 1 << 20
NUM_NAMED: Final = 5
"""Largest files that an error message names."""
_ENTRY_BYTES: Final = 30 + 46
"""Bytes of an entry of a zip file, besides the file's content and twice its name: local header and directory entry."""
_END_BYTES: Final = 22
"""Bytes of the record at the end of a zip file."""


def packed_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file that Ray packs for an upload of `folder`, by relative path, in Ray's order."""
    sizes: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    visit_packed(folder, add)
    return sizes


def upload_bytes(sizes: dict[str, int]) -> int:
    """Return the bytes of the zip file, which Ray writes without compression."""
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in sizes.items())


def check_upload(folder: Path, limit_bytes: int = UPLOAD_LIMIT_BYTES) -> int:
    """Return the bytes of the upload.

    Raises:
        ClusterError: `folder` does not exist, or the upload is larger than the head accepts. The message then names
            the largest files.
    """
    if not folder.is_dir():
        raise ClusterError(f"--working-dir {folder} is not a folder; name a clone of the project")
    folder = folder.absolute()
    sizes = packed_sizes(folder)
    total = upload_bytes(sizes)
    if total > limit_bytes:
        raise ClusterError(
            f"{folder} would upload {total / MIB:.1f} MiB, but a Ray head takes at most {limit_bytes / MIB:.0f} MiB; "
            f"move files away or name them in .rayignore: {_largest(list(sizes.items()))}"
        )
    return total


def _largest(files: Sequence[tuple[str, int]]) -> str:
    ordered = sorted(files, key=lambda file: -file[1])
    num_others = len(ordered) - NUM_NAMED
    named = ", ".join(f"{name} ({size / MIB:.1f} MiB)" for name, size in ordered[:NUM_NAMED])
    return f"{named}, and {num_others} smaller files" if num_others > 0 else named
