"""Files on any `pyarrow.fs` path (local, NFS, S3). Writes are atomic: a reader never sees a partial file."""

import errno
import io
import json
import os
import shutil
import threading
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from renalnet.errors import InputError
from renalnet.json_text import parse_json

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a file at its size limit."""
MAX_ARRAY_BYTES: Final = 1 << 36
"""Largest arrays that a file may unpack to: 64 GiB, several times those of the largest ROI."""

_REMEDIES: Final = {
    **dict.fromkeys(FULL, "make room, or raise the quota"),
    errno.EROFS: "mount it for writing",
    errno.EIO: "check or replace the disk",
}
"""By error number of a disk that cannot be written for now, what the user may do."""


def disk_fault(error: OSError) -> str:
    """Return what is wrong with a disk that cannot be written for now, and the remedy; empty for other errors."""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error}; {remedy}, then repeat the command to go on" if remedy else ""


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Turn system errors while an input is read (no permission, a removed file) into errors of that input.

    Raises:
        InputError: instead of any OSError except those of `FULL`, which do not come from the input.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = error.strerror or error
        raise InputError(f"{error.filename or where}: not readable ({reason}); replace or remove it") from error


def resolve(path: str | Path) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path on it. Local paths become absolute.

    Raises:
        InputError: the scheme of the URI is unknown, or the URI holds credentials.
    """
    text = str(path)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    parts = urlsplit(text)
    if parts.password:  # manifests and logs would show it
        raise InputError(
            f"the URI of '{parts.hostname}' holds credentials; remove them and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or the storage's own variables, on every node"
        )
    try:
        # Without its path, so that all paths of a server share one cached file system.
        filesystem, root = _root(parts._replace(path="/").geturl())
    except (ValueError, OSError) as error:
        raise InputError(f"cannot open '{text}': {error}; use a local path or a file://, s3:// or gs:// URI") from error
    return filesystem, _below(root, parts)


@lru_cache(maxsize=16)
def _root(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI without a path."""
    # Cached, because the file system of an object store keeps its connections open.
    if uri.startswith("s3://"):  # a small file then takes one request instead of three
        uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
    filesystem, inner = fs.FileSystem.from_uri(uri)
    return filesystem, inner


def _below(root: str, parts: SplitResult) -> str:
    return f"{root.rstrip('/')}/{parts.path.lstrip('/')}".rstrip("/") or "/"


def is_remote(path: str | Path) -> bool:
    """Return whether a path is on an object store, not on a mounted file system."""
    return not isinstance(resolve(path)[0], fs.LocalFileSystem)


def absolute(path: str | Path) -> str:
    """Return a local path or `file://` URI as an absolute path. Other URIs are returned unchanged."""
    return str(path) if is_remote(path) else resolve(path)[1]


def join(path: str | Path, *parts: str) -> str:
    """Return `path` with `parts` appended, for paths and URIs. The query of a URI stays at its end."""
    # Only in a URI does a question mark begin a query. The name of a local file may hold one.
    base, mark, query = str(path).partition("?") if "://" in str(path) else (str(path), "", "")
    return "/".join([base.rstrip("/"), *parts]) + mark + query


def exists(path: str | Path) -> bool:
    """Return whether a file or folder exists."""
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type != fs.FileType.NotFound)


def list_sizes(path: str | Path) -> dict[str, int | None]:
    """Return the entries of a folder, sorted by name: the bytes of a file, None for a folder.

    A folder that does not exist is empty.
    """
    filesystem, inner = resolve(path)
    entries = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    return {entry.base_name: entry.size for entry in sorted(entries, key=lambda entry: str(entry.base_name))}


def list_names(path: str | Path) -> list[str]:
    """Return the sorted names of the entries of a folder. A folder that does not exist is empty."""
    return list(list_sizes(path))


def list_files(path: str | Path) -> list[str]:
    """Return the sorted paths of all files in a folder and its folders, relative to it; empty where it is missing."""
    filesystem, inner = resolve(path)
    entries = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True, recursive=True))
    return sorted(str(entry.path)[len(inner) + 1 :] for entry in entries if entry.type == fs.FileType.File)


def read_bytes(path: str | Path, *, max_bytes: int | None = None) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: there is none.
        InputError: the file has more than `max_bytes` bytes, or is a pipe or a device.
    """
    filesystem, inner = resolve(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        _require_end(inner)
    # A stream would send several requests, and an object that is replaced meanwhile would be read half old, half new.
    with filesystem.open_input_file(inner) as file:
        size = file.size()
        if max_bytes is not None and size > max_bytes:
            raise InputError(f"{path}: has {size:,} bytes, more than {max_bytes:,}; restore the file")
        return bytes(file.read_at(size, 0))


def _require_end(path: str) -> None:
    """Refuse a pipe, which waits for its writer, and a device, which has no end."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - `Path.stat` takes a third longer, and every small file is read here
    if not (S_ISREG(mode) or S_ISDIR(mode)):
        raise InputError(f"{path}: is no regular file; replace it by one")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it into place."""
    filesystem, inner = resolve(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        _write_local(Path(inner), content)
        return
    buffer = pa.py_buffer(content)  # raises here where the content is not bytes
    if threading.current_thread() is threading.main_thread():
        # Signals raise their exceptions in this thread only. An object that is opened is written at its end, whatever
        # has become of it, so an exception here would put an empty object in place of a good one.
        _writer(os.getpid()).submit(_write_object, filesystem, inner, buffer).result()
    else:
        _write_object(filesystem, inner, buffer)


@lru_cache(1)
def _writer(process: int) -> ThreadPoolExecutor:
    """Return the thread that writes objects for the main thread, one for a process, which a fork does not copy."""
    return ThreadPoolExecutor(1, f"write-{process}")


def _write_object(filesystem: fs.FileSystem, inner: str, content: pa.Buffer) -> None:
    with filesystem.open_output_stream(inner) as stream:  # the store shows the object only when it is complete
        stream.write(content)


def _write_local(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # only after an error; a renamed file no longer has this name


def temporary_name(path: Path) -> Path:
    """Return the name of a temporary file in the folder of `path`, for content that is not complete yet."""
    # The same folder, because a rename is atomic only within one file system.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_through(path: Path, content: bytes) -> None:
    """Write a local file and flush it to the disk. An OSError names the file."""
    try:
        with path.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # a power loss after the rename could otherwise leave an empty file
    except OSError as error:
        error.filename = error.filename or str(path)  # Python names it only if the file cannot be opened
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder. It gets the name `path` when the block ends, and is removed if the block raises.

    A killed process leaves it behind, under a hidden name that ends in `.tmp`.

    Raises:
        InputError: `path` exists, or is on an object store, which cannot rename a folder.
    """
    if is_remote(path):
        raise InputError(f"{path}: a folder on an object store cannot be renamed; name a local folder, then copy it")
    target = Path(absolute(path))
    if os.path.lexists(target):
        raise _taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = temporary_name(target)
    staged.mkdir()
    try:
        yield staged
        _rename_folder(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # only after an error; a renamed folder no longer has this name


def _rename_folder(staged: Path, target: Path) -> None:
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _taken(target) from error


def _taken(folder: Path) -> InputError:
    return InputError(f"{folder}: exists, and is not overwritten; name another folder, or remove it")


def read_json(path: str | Path, *, max_bytes: int | None = None) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is not JSON, has a key twice, is nested more than `MAX_DEPTH` levels deep, or has more than
            `max_bytes` bytes.
    """
    content = read_bytes(path, max_bytes=max_bytes)
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(f"{path} is not readable JSON ({error}); restore it or start in a new folder") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON as `write_bytes` does. Keys keep their order."""
    write_bytes(path, json_content(value))


def json_content(value: Any) -> bytes:
    """Return indented JSON with a line break at its end."""
    return (json.dumps(value, indent=2) + "\n").encode()


def delete(path: str | Path) -> None:
    """Remove a file if it exists."""
    filesystem, inner = resolve(path)
    with suppress(FileNotFoundError):
        filesystem.delete_file(inner)


def json_line(value: Any) -> str:
    """Return `value` as one line of JSON, for logs that are read line by line."""
    return json.dumps(value, separators=(", ", ": "))


def write_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], *, is_compressed: bool = True) -> None:
    """Write named arrays as one `.npz` file, as `write_bytes` does. Without compression it is several times faster."""
    content = io.BytesIO()
    save = np.savez_compressed if is_compressed else np.savez
    save(content, allow_pickle=False, **arrays)
    write_bytes(path, content.getvalue())


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is empty, cut or another kind of file, holds pickled objects, which could run code, or unpacks to
            more than `MAX_ARRAY_BYTES`.
    """
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            num_bytes = sum(part.file_size for part in archive.infolist())
        if num_bytes > MAX_ARRAY_BYTES:
            raise ValueError(f"{num_bytes} bytes of arrays")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    # NumPy parses the header of an array as Python before the checksum is compared. Each damage raises another error.
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"{path} is no readable .npz file ({reason}); replace or remove it") from error
