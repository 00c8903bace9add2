"""JSON text from elsewhere as values."""

import json
from typing import Any, Final

MAX_DEPTH: Final = 30
"""Levels of nesting that a file of JSON or YAML may have."""


def parse_json(content: str | bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: it is not JSON, has a key twice, or is nested more than `MAX_DEPTH` levels deep.
    """
    deeper = f"nested more than {MAX_DEPTH} levels deep"
    try:
        value = json.loads(content, object_pairs_hook=_with_single_keys)
    except RecursionError as error:
        raise ValueError(deeper) from error
    if _is_deeper(value, MAX_DEPTH):
        raise ValueError(deeper)
    return value


def _with_single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r:.80} is given twice")
    return values


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(_is_deeper(each, depth - 1) for each in inner)
