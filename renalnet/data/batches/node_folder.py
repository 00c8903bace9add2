"""A folder on this node that a user's processes share while any of them runs, and that goes with the last one.

Each user of the folder holds a shared lock on a file beside it. The kernel frees the locks of a process that is
killed, so whoever gets that lock for himself alone knows that what he finds was left behind.
"""

import fcntl
import os
import shutil
import stat
import weakref
from contextlib import suppress
from pathlib import Path


def private_home(base: Path) -> Path | None:
    """A folder below `base` that is this user's alone, made if absent; none where it cannot be had or trusted."""
    home = base / f"renalnet-{os.getuid()}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        found = home.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return home if is_ours else None


def remove_leftovers(home: Path) -> None:
    """Remove the folders below `home` whose users are all gone."""
    for lock in home.glob("*.lock"):
        with suppress(OSError):
            _leave(os.open(lock, os.O_RDWR), lock)


class NodeFolder:
    """`path` is there until the last process that made this object with the same place has closed it or ended."""

    def __init__(self, path: Path) -> None:
        """Join the folder, or make it anew where nobody uses it. Raises OSError."""
        self.path = path
        lock = path.with_name(f"{path.name}.lock")
        self._finalizer = weakref.finalize(self, _leave, _join(path, lock), lock)

    def close(self) -> None:
        """Leave the folder; the last one removes it. Memory that is mapped from it stays."""
        self._finalizer()


def _join(folder: Path, lock: Path) -> int:
    """An open file that holds the shared lock."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        if _locks_alone(file, lock):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        fcntl.flock(file, fcntl.LOCK_SH)
        # Between the two locks another may have come, found nobody, and removed both.
        if _is_in_place(file, lock) and folder.is_dir():
            return file
        os.close(file)


def _leave(file: int, lock: Path) -> None:
    try:
        if _locks_alone(file, lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
    finally:
        os.close(file)


def _locks_alone(file: int, lock: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_in_place(file, lock)


def _is_in_place(file: int, lock: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), lock.stat())
    except FileNotFoundError:
        return False
