"""YAML text as values.

Words are read as in YAML 1.2: `on`, `off`, `yes` and `no` are text, and only `true` and `false` are booleans. PyYAML
reads YAML 1.1, in which a setting with the value `off` would be false.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import yaml

from renalnet.errors import ConfigError
from renalnet.json_text import MAX_DEPTH

MAX_BYTES: Final = 1_000_000
"""Size of the longest YAML text that is read. A list of 10 000 cases has a third of it."""
_MAX_VALUES: Final = 100_000
"""Number of values of the largest document. Aliases count as what they stand for."""
_ERRORS: Final = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""Errors of PyYAML. Its constructors of dates, numbers and booleans also raise errors of other types."""
_BOOL: Final = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML document; None if it is empty.

    Args:
        text: one document.
        where: the file or option that it is from, for messages.

    Raises:
        ConfigError: the text is not YAML, a mapping has a key twice, or the text is longer, deeper or, with its
            aliases written out, larger than a configuration can be.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: has more than {MAX_BYTES:,} characters; name a configuration file")
    with _as_config_error(where):
        loader = _Loader(text)
        node = loader.get_single_node()
    if node is None:
        return None
    _Check(where).values(node, 0)
    with _as_config_error(where):
        return loader.construct_document(node)


@contextmanager
def _as_config_error(where: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        # In one line, because messages of PyYAML have several.
        message = " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML ({message}); correct the value or quote it") from error


class _Check:
    """Rules for the nodes of a document, checked before values are made of them."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._known: dict[int, int] = {}

    def values(self, node: yaml.Node, depth: int) -> int:
        """Return the number of values of a node with its aliases written out. Raises ConfigError."""
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self._where}: nested more than {MAX_DEPTH} levels deep; remove levels")
        # An alias is the node that it stands for, so each node is counted once and the document's time stays linear.
        if id(node) not in self._known:
            self._known[id(node)] = 1 + sum(self.values(part, depth + 1) for part in self._parts(node))
        if self._known[id(node)] > _MAX_VALUES:
            raise ConfigError(f"{self._where}: holds more than {_MAX_VALUES:,} values; write fewer or remove aliases")
        return self._known[id(node)]

    def _parts(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.MappingNode):
            self._require_single_keys(node)
            return [part for pair in node.value for part in pair]
        return node.value if isinstance(node, yaml.SequenceNode) else []

    def _require_single_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            name = (key.tag, key.value)
            if name in lines:
                raise ConfigError(
                    f"{self._where}: key '{key.value}' is given in line {lines[name]} and again in line {line}; a key "
                    "has one value, so join them"
                )
            lines[name] = line
