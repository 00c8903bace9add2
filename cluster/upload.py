"""What `ray job submit` would upload of a working directory, and whether the head takes it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ray._private import ray_constants
from ray._private.runtime_env import packaging

from renalnet.errors import ClusterError

MIB: Final = 1 << 20
LIMIT_BYTES: Final[int] = ray_constants.DASHBOARD_CLIENT_MAX_SIZE
"""The largest upload that the job interface accepts; it answers a larger one with a traceback."""
NUM_NAMED: Final = 5
_ENTRY_BYTES: Final = 30 + 46
"""What a zip file holds beside a file's bytes and, twice, its name: local header and directory entry."""
_END_BYTES: Final = 22
_quiet: Final = logging.Logger("quiet", logging.ERROR)


def packed_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below `folder` that Ray packs, in the order that it finds them.

    That is what neither `.gitignore` nor `.rayignore` files name, those of the folders below included, nor Ray itself
    (`.git`, `.venv`, `venv`, `__pycache__`). Ray's own walk is used, so that the answer is Ray's.
    """
    sizes: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    left_out = packaging._get_excludes(folder, ray_constants.get_runtime_env_default_excludes())
    heeds_git = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    packaging._dir_travel(folder, [left_out], add, include_gitignore=heeds_git, logger=_quiet)
    return sizes


def upload_bytes(sizes: dict[str, int]) -> int:
    """Bytes of the zip file, which Ray writes without compression."""
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in sizes.items())


def check_upload(folder: Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Bytes that will be uploaded.

    Raises:
        ClusterError: no such folder; more than the head accepts, with the largest files named.
    """
    if not folder.is_dir():
        raise ClusterError(f"--working-dir {folder} is not a folder; name a clone of the project")
    folder = folder.absolute()
    sizes = packed_sizes(folder)
    total = upload_bytes(sizes)
    if total > limit_bytes:
        raise ClusterError(
            f"{folder} would upload {total / MIB:.1f} MiB, a Ray head takes {limit_bytes / MIB:.0f} MiB; move away or "
            f"name in .rayignore: {_largest(list(sizes.items()))}"
        )
    return total


def _largest(files: Sequence[tuple[str, int]]) -> str:
    ordered = sorted(files, key=lambda file: -file[1])
    rest = len(ordered) - NUM_NAMED
    named = ", ".join(f"{name} ({size / MIB:.1f} MiB)" for name, size in ordered[:NUM_NAMED])
    return f"{named}, and {rest} smaller files" if rest > 0 else named
