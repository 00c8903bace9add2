"""The base of every configuration section, and how values become one."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from renalnet.errors import ConfigError, nearest

Voxels: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]


Lengths: TypeAlias = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Section(BaseModel):
    """Base of every configuration: frozen, no unknown keys, fields documented by the text below them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


_YAML_ERRORS = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""What the safe loader raises: beyond its own, whatever its builders of dates, numbers and truths let through."""


AnySection = TypeVar("AnySection", bound=Section)


def parse(section: type[AnySection], values: Mapping[str, Any], where: str = "configuration") -> AnySection:
    """Validate `values` as a `section`.

    Raises:
        ConfigError: one line naming the first offending key, its value and the rule.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(section, error)}") from error


def _first_problem(section: type[Section], error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(location[-1], _keys_at(section, location[:-1]))}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message}" if key else message


def _keys_at(section: type[Section], location: Iterable[str]) -> list[str]:
    current = section
    for part in location:
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        current = annotation
    return list(current.model_fields)


def override(config: AnySection, assignments: Iterable[str], where: str = "--set") -> AnySection:
    """`config` with `key.sub=value` assignments applied; values are read as YAML.

    Raises:
        ConfigError: an assignment has no '=', or a key or value is invalid.
    """
    values = config.model_dump()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"{where} '{assignment}' must read key.sub=value")
        _assign(values, key.split("."), _parse_yaml(text, f"{where} '{assignment}'"))
    return parse(type(config), values, where)


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            values[part] = inner = {}
        values = inner
    values[path[-1]] = value


def merge(config: AnySection, changes: Mapping[str, Any], where: str) -> AnySection:
    """`config` with a nested mapping of changes laid over it, key by key. Raises ConfigError."""
    return parse(type(config), _merged(config.model_dump(), changes), where)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both_nested = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_nested else value
    return result


def read_file(path: str | Path) -> dict[str, Any]:
    """A YAML configuration file as a mapping. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name an existing YAML file") from error
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, got {type(values).__name__}")
    return values


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except _YAML_ERRORS as error:
        raise ConfigError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error


def fingerprint(config: Section) -> str:
    """Sixteen hexadecimal digits that two configurations share only if all their values are equal."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
