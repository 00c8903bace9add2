"""The winner's model bundle in `best/`, which is replaced as a whole."""

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from renalnet.nets.bundle import CONFIG_FILE
from renalnet.runtime import storage
from study.records.ledger import Ledger
from study.records.results import Results

_AT_FDCWD: Final = -100
"""Directory to which `renameat2` takes relative paths: the working directory."""
_RENAME_EXCHANGE: Final = 2
_STAGED: Final = ".best-new"
_BEFORE: Final = ".best-before"


def replace_best(results: Results, build: Callable[[str], None]) -> None:
    """Build the bundle beside `best/` and put it in its place; leave `best/` alone where its files are equal.

    On a mounted file system, the two folders change places at once where the system can do that, and otherwise by two
    renames. An object store has no rename: there the objects are replaced one by one, the configuration last. Its
    checksum does not match the weights until then, so that nobody reads a mixture.

    Args:
        results: the results folder.
        build: writes the whole bundle into the folder that it is given.
    """
    if storage.is_remote(results.folder):
        with TemporaryDirectory(prefix="renalnet-best-") as folder:
            build(folder)
            _put(results, folder, _upload)
    else:
        staged, before = (storage.absolute(results.path(name)) for name in (_STAGED, _BEFORE))
        for leftover in (staged, before):  # of a killed driver
            shutil.rmtree(leftover, ignore_errors=True)
        build(staged)
        _put(results, staged, _swap)
        shutil.rmtree(staged, ignore_errors=True)


def _put(results: Results, staged: str, replace: Callable[[Results, str], None]) -> None:
    ledger = Ledger(results)
    if not _are_equal(staged, results.best_folder):
        ledger.drop(f"best/{name}" for name in storage.list_files(results.best_folder))
        replace(results, staged)
    ledger.add_new(f"best/{name}" for name in storage.list_files(results.best_folder))


def _are_equal(one: str, other: str) -> bool:
    names = storage.list_files(one)
    if names != storage.list_files(other):
        return False
    return all(
        storage.read_bytes(storage.join(one, name)) == storage.read_bytes(storage.join(other, name)) for name in names
    )


def _upload(results: Results, staged: str) -> None:
    best = results.best_folder
    names = storage.list_files(staged)
    for name in sorted(names, key=lambda name: name == CONFIG_FILE):
        storage.write_bytes(storage.join(best, name), storage.read_bytes(storage.join(staged, name)))
    for name in set(storage.list_files(best)) - set(names):
        storage.delete(storage.join(best, name))


def _swap(results: Results, staged: str) -> None:
    best = Path(storage.absolute(results.best_folder))
    if not best.exists():
        Path(staged).rename(best)
    elif not _exchange(staged, str(best)):
        before = Path(storage.absolute(results.path(_BEFORE)))
        best.rename(before)
        Path(staged).rename(best)
        shutil.rmtree(before)


def _exchange(one: str, other: str) -> bool:
    """Exchange two folders at once; return whether the system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise OSError(number, os.strerror(number), other)
    return False
