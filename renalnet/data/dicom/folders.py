"""The files of a folder and its subfolders, also those of linked folders."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path, *, nested: bool = True) -> list[Path]:
    """Return the files of a folder, sorted, and those of its subfolders if `nested`. Hidden files are left out.

    Links to folders are followed. Each folder is listed once, and a link to a folder that contains `folder` is not
    followed, since it would lead in circles or to the files of other cases.

    Raises:
        OSError: a folder cannot be listed.
    """
    return sorted(path for part in _folders(folder, nested=nested) for path in _files(part))


def _folders(folder: Path, *, nested: bool) -> Iterator[Path]:
    yield folder
    own = folder.resolve()
    seen = {own, *own.parents}
    waiting = _subfolders(folder) if nested else []
    while waiting:
        current = waiting.pop(0)
        real = current.resolve()
        if real not in seen:
            seen.add(real)
            yield current
            waiting += _subfolders(current)


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir())


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if not entry.name.startswith(".") and entry.is_file()]
