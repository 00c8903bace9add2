"""Typed readers of the small files of a results folder. A damaged file is one line that names it."""

from typing import Any, Final

from numpy.typing import NDArray

from renalnet.errors import InputError, ResultsError
from renalnet.json_text import parse_json
from renalnet.runtime import storage

MAX_TEXT_BYTES: Final = 1 << 28
"""Largest JSON file or log that is read; those of a study have a few kilobytes to a few megabytes."""


def read_text(path: str) -> bytes:
    """Return the content of a JSON file or a log.

    Raises:
        FileNotFoundError: it is missing.
        ResultsError: it is a folder, or larger than any such file of a study.
    """
    try:
        return storage.read_bytes(path, max_bytes=MAX_TEXT_BYTES)
    except (InputError, IsADirectoryError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); restore it") from error


def read_object(path: str) -> dict[str, Any]:
    """Return the content of a file that holds one JSON object.

    Raises:
        FileNotFoundError: it is missing.
        ResultsError: it is cut, or holds something else.
    """
    content = read_text(path)
    if not content:
        raise damaged(path, "it is empty")
    try:
        values = parse_json(content)
    except ValueError as error:
        raise damaged(path, f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise damaged(path, f"a JSON {type(values).__name__} instead of an object")
    return values


def read_lines(path: str) -> list[dict[str, Any]]:
    """Return the content of a log that holds one JSON object a line; empty before the first line.

    Raises:
        FileNotFoundError: it is missing.
        ResultsError: a line is cut, or holds something else.
    """
    lines = read_text(path).splitlines()
    try:
        found = [parse_json(line) for line in lines]
    except ValueError as error:
        raise damaged(path, f"a line is not JSON: {error}") from error
    if not all(isinstance(values, dict) for values in found):
        raise damaged(path, "a line is no JSON object")
    return found


def read_named_arrays(path: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file.

    Args:
        path: the file.
        names: arrays that it must hold.

    Raises:
        FileNotFoundError: it is missing.
        ResultsError: it is cut, another kind of file, or lacks an array.
    """
    try:
        arrays = storage.read_arrays(path)
    except InputError as error:
        raise ResultsError(f"{error}; repeat the study's command") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise damaged(path, f"it holds no array {', '.join(missing)}")
    return arrays


def damaged(path: str, what: str) -> ResultsError:
    """Return the error of a file that is damaged."""
    return ResultsError(f"{path} is damaged ({what}); restore it, or repeat the study's command")
