"""A folder on this node that the processes of a user share, and that the last of them removes.

Each user of the folder has a shared lock on a file beside it. The kernel frees the locks of a killed process. A process
that gets the exclusive lock therefore knows that the folder is left over from processes that have ended.
"""

import fcntl
import os
import shutil
import stat
import weakref
from contextlib import suppress
from pathlib import Path


def private_home(base: Path) -> Path | None:
    """Return a folder below `base` that only this user can enter; it is made if absent.

    None where it cannot be made, or where its owner or permissions are not those of this user alone.
    """
    home = base / f"renalnet-{os.getuid()}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        # Everybody can write to /dev/shm, so the name may be a folder or a link of another user.
        found = home.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return home if is_ours else None


def remove_leftovers(home: Path) -> None:
    """Remove the folders below `home` whose users have all ended."""
    for lock in home.glob("*.lock"):
        with suppress(OSError):
            # As a user that never joined: it removes a folder only if nobody else has the lock.
            _leave(os.open(lock, os.O_RDWR), lock)


class NodeFolder:
    """A shared folder. `path` exists until the last process with such an object for it has closed it or ended."""

    def __init__(self, path: Path) -> None:
        """Join the folder, or make an empty one where nobody uses it. Raises OSError where that is not possible."""
        self.path = path
        lock = path.with_name(f"{path.name}.lock")
        # Unlike `__del__`, a finalizer also runs when the interpreter ends.
        self._finalizer = weakref.finalize(self, _leave, _join(path, lock), lock)

    def close(self) -> None:
        """Leave the folder; its last user removes it. Memory that is mapped from it stays valid."""
        self._finalizer()


def _join(folder: Path, lock: Path) -> int:
    """Return an open file with the shared lock, after making the folder if nobody else uses it."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        if _locks_alone(file, lock):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        fcntl.flock(file, fcntl.LOCK_SH)
        # Between the two locks another process may have got the exclusive one and removed folder and lock file.
        if _is_in_place(file, lock) and folder.is_dir():
            return file
        os.close(file)


def _leave(file: int, lock: Path) -> None:
    try:
        if _locks_alone(file, lock):
            # The folder goes first: without the lock file, another process could already make the folder again.
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
    """Return whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), lock.stat())
    except FileNotFoundError:
        return False
