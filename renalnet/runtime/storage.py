"""Files on any `pyarrow.fs` path (local, NFS, S3): read, and write so that a reader never sees half a file."""

import errno
import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from renalnet.errors import InputError

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk, a quota or a file is full."""


@contextmanager
def reading(where: object) -> Iterator[None]:
    """While an input is read: what the system refuses (permission, a file that went away) is an error of that input.

    Raises:
        InputError: instead of any OSError but those of `FULL`, which are not the input's fault.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = error.strerror or error
        raise InputError(f"{error.filename or where}: not readable ({reason}); replace or remove it") from error


def resolve(path: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI and the path on it; local paths are made absolute.

    Raises:
        InputError: the URI's scheme is unknown, or it holds credentials.
    """
    text = str(path)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    parts = urlsplit(text)
    if parts.password:  # it would be kept in manifests and shown in logs
        raise InputError(
            f"a URI of '{parts.hostname}' holds credentials; leave them out and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or the storage's own variables, on every node"
        )
    try:
        filesystem, root = _root(parts._replace(path="/").geturl())
    except (ValueError, OSError) as error:
        raise InputError(f"cannot open '{text}': {error}; use a local path or a file://, s3:// or gs:// URI") from error
    return filesystem, _below(root, parts)


@lru_cache(maxsize=16)
def _root(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI without path; made once, since an object store's keeps its connections."""
    if uri.startswith("s3://"):  # one request for a small file instead of three
        uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
    filesystem, inner = fs.FileSystem.from_uri(uri)
    return filesystem, inner


def _below(root: str, parts: SplitResult) -> str:
    return f"{root.rstrip('/')}/{parts.path.lstrip('/')}".rstrip("/") or "/"


def is_remote(path: str | Path) -> bool:
    """Whether a path leads off the mounted file systems, to an object store."""
    return not isinstance(resolve(path)[0], fs.LocalFileSystem)


def absolute(path: str | Path) -> str:
    """A local path, also one with file:// before it, made absolute; another URI as it is."""
    return str(path) if is_remote(path) else resolve(path)[1]


def join(path: str | Path, *parts: str) -> str:
    """`path` with `parts` below it, for paths and URIs alike; a URI's query stays at its end."""
    base, mark, query = str(path).partition("?") if "://" in str(path) else (str(path), "", "")
    return "/".join([base.rstrip("/"), *parts]) + mark + query


def exists(path: str | Path) -> bool:
    """Whether a file or folder is there."""
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type != fs.FileType.NotFound)


def list_sizes(path: str | Path) -> dict[str, int | None]:
    """What lies directly in a folder, by name, sorted: bytes of a file, none for a folder; an absent one is empty."""
    filesystem, inner = resolve(path)
    entries = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    return {entry.base_name: entry.size for entry in sorted(entries, key=lambda entry: str(entry.base_name))}


def list_names(path: str | Path) -> list[str]:
    """Sorted names of what lies directly in a folder; an absent folder is empty."""
    return list(list_sizes(path))


def read_bytes(path: str | Path) -> bytes:
    """The whole content of a file. Raises FileNotFoundError."""
    filesystem, inner = resolve(path)
    with filesystem.open_input_stream(inner) as stream:
        return bytes(stream.read())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it into place."""
    filesystem, inner = resolve(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        _write_local(Path(inner), content)
        return
    with filesystem.open_output_stream(inner) as stream:  # an object store shows an object only when it is whole
        stream.write(content)


def _write_local(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside a local file, for its next content until that is whole."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_through(path: Path, content: bytes) -> None:
    """Write a local file and see it to the disk."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def read_json(path: str | Path) -> Any:
    """A JSON file's content. Raises FileNotFoundError, and InputError where it is not JSON."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path} is not readable JSON ({error}); restore it or start in a new folder") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; keys keep their order."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def delete(path: str | Path) -> None:
    """Remove a file if it is there."""
    filesystem, inner = resolve(path)
    with suppress(FileNotFoundError):
        filesystem.delete_file(inner)


def json_line(value: Any) -> str:
    """One line of JSON, for logs that are read line by line."""
    return json.dumps(value, separators=(", ", ": "))


def write_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], *, is_compressed: bool = True) -> None:
    """Write named arrays as one `.npz` file, whole or not at all; uncompressed it takes a fraction of the time."""
    content = io.BytesIO()
    save = np.savez_compressed if is_compressed else np.savez
    save(content, allow_pickle=False, **arrays)
    write_bytes(path, content.getvalue())


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file; pickled objects in it are refused."""
    with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
        return dict(arrays)
