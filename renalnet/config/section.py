"""The base class of all configuration sections, and the functions that build one from values."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, ClassVar, Final, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from renalnet.config.yaml_text import MAX_BYTES, parse_yaml
from renalnet.errors import ConfigError, nearest
from renalnet.json_text import parse_json

_AxisVoxels = Annotated[int, Field(gt=0, le=4096)]
Voxels: TypeAlias = tuple[_AxisVoxels, _AxisVoxels, _AxisVoxels]
"""Voxels (z, y, x) of an image or a part of it; no scan has more along an axis."""
_SPACING_RANGE_MM: Final = (0.1, 20.0)
"""Finest and coarsest voxel spacing. A finer one needs more memory than a node has; in a coarser one, a kidney is a few
voxels."""


def _possible_spacing(spacing_mm: float) -> float:
    low, high = _SPACING_RANGE_MM
    if not low <= spacing_mm <= high:
        raise ValueError(f"a voxel spacing must be between {low:g} and {high:g} mm; give one near that of the scans")
    return spacing_mm


SpacingMm = Annotated[float, AfterValidator(_possible_spacing)]
"""Voxel spacing along one axis, in mm."""
Spacing: TypeAlias = tuple[SpacingMm, SpacingMm, SpacingMm]
"""Voxel spacing (z, y, x) in mm."""
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of random numbers; the searchers' generator takes no larger one."""


class Section(BaseModel):
    """Base class of all configurations: frozen, without unknown keys, each field documented by the text below it."""

    # Neither NaN nor infinity, because manifests keep configurations as JSON, which has neither.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    study_key: ClassVar[str] = ""
    """Key of this section in the configuration of a study, such as `train`. `override` takes keys with it, so that a
    key has one spelling in all commands."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Names of fields that older versions did not have. Such a field does not change a fingerprint while it has its
    default, which is what the older versions did, so that runs and studies of those versions can be resumed."""
    before: ClassVar[Mapping[str, Any]] = {}
    """What older versions did where it is not the default of today, for fields that they did not have. Such a field
    does not change a fingerprint while it has this value."""


AnySection = TypeVar("AnySection", bound=Section)
_NOT_IMPLIED = object()
_MAX_SHOWN: Final = 200
"""Characters of the longest value that a message shows whole."""


def parse(section: type[AnySection], values: Mapping[str, Any], where: str = "configuration") -> AnySection:
    """Validate `values` as a `section`.

    Raises:
        ConfigError: a key is unknown, or a value breaks a rule. The message names the first such key.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(section, error)}") from error


def _first_problem(section: type[Section], error: ValidationError) -> str:
    first = error.errors()[0]  # the others often follow from it, and a message is one line
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        hint = _inner_key(section, key) or nearest(location[-1], _keys_at(section, location[:-1]))
        return f"unknown key '{key}'; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    # The input of a rule for a whole section is all of its values; the message names those that matter.
    value = "" if isinstance(first["input"], Mapping) else f" = {_shown(first['input'])}"
    return f"{key}{value}: {message}" if key else message


def _inner_key(section: type[Section], key: str) -> str:
    """Return a hint where a key is one of an inner section's, which was named without that section; else empty."""
    inner = {name: _keys_at(section, [name]) for name in section.model_fields}
    owners = [name for name, keys in inner.items() if keys != list(section.model_fields) and key in keys]
    return f"write {' or '.join(f'{name}.{key}' for name in owners)}" if owners else ""


def problem_of(error: ValidationError) -> str:
    """Return the first problem of values as one line, which names the field."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key} = {_shown(first['input'])}: {first['msg'].removeprefix('Value error, ')}"


def _shown(value: object) -> str:
    """Return a value for a message of one line; the middle of a long one is left out."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]} … {text[-_MAX_SHOWN // 2 :]}"


def _keys_at(section: type[Section], location: Iterable[str]) -> list[str]:
    current = section
    for part in location:
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        current = annotation
    return list(current.model_fields)


def override(config: AnySection, assignments: Iterable[str], where: str = "--set") -> AnySection:
    """Return `config` with `key.sub=value` assignments applied. Values are read as YAML.

    A key may begin with the section's own name, as in the configuration of a study: `train.epochs` is `epochs`.

    Raises:
        ConfigError: an assignment has no key or no '=', or a key or value is invalid.
    """
    # All assignments are applied before the check, because a rule may compare values that change together.
    values = config.model_dump()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"{where} '{assignment}' is not an assignment; write it as key.sub=value")
        path = key.removeprefix(f"{config.study_key}.").split(".")
        _assign(values, path, parse_yaml(text, f"{where} '{assignment}'"))
    return parse(type(config), values, where)


def assigned(assignments: Iterable[str], key: str, where: str = "--set") -> list[Any]:
    """Return the values that assignments give to `key`, read as YAML. Raises ConfigError where one is not YAML."""
    parts = [assignment.partition("=") for assignment in assignments]
    return [parse_yaml(text, f"{where} '{key}={text}'") for name, equals, text in parts if equals and name == key]


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    # Any path is accepted here. The validation that follows names a wrong key and the nearest known one.
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            values[part] = inner = {}
        values = inner
    values[path[-1]] = value


def merge(config: AnySection, changes: Mapping[str, Any], where: str) -> AnySection:
    """Return `config` with a nested mapping of changes applied, key by key. Raises ConfigError as `parse` does."""
    return parse(type(config), _merged(config.model_dump(), changes), where)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        # Only mappings are merged. A list is one value, so nothing of the old one may be left.
        both_nested = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_nested else value
    return result


def read_file(path: str | Path) -> dict[str, Any]:
    """Return the content of a configuration file in YAML or, where its name ends in .json, in JSON.

    An empty file gives an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is neither YAML nor JSON, has a key twice, or does not hold a mapping.
    """
    text = _text_of(Path(path))
    # YAML does not allow the tabs of JSON.
    read = _parse_json if Path(path).suffix.lower() == ".json" else parse_yaml
    values = read(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        found = type(values).__name__
        raise ConfigError(f"{path}: holds a {found}, not a mapping of keys to values; write it as `key: value` lines")
    return values


def _parse_json(text: str, where: str) -> Any:
    try:
        return parse_json(text) if text.strip() else None
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error}); correct the file") from error


def _text_of(path: Path) -> str:
    """Return the text of a configuration file. Raises ConfigError if it is no file or too large to be one."""
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):
            # To open a pipe waits for its writer, and a device has no end.
            raise ConfigError(f"{path}: is no regular file; name a YAML file")
        if about.st_size > MAX_BYTES:
            raise ConfigError(
                f"{path}: has {about.st_size:,} bytes, more than {MAX_BYTES:,}; name a configuration file"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name an existing YAML file") from error


def fingerprint(config: Section) -> str:
    """Return 16 hexadecimal digits that are equal for two configurations only if all values are equal."""
    # Sorted, so that the fingerprint does not depend on the order in which fields are declared.
    canonical = json.dumps(_fingerprinted(config), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _fingerprinted(config: Section) -> dict[str, Any]:
    """Return the JSON values of `config` without the added fields that are as in the versions without them."""
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            # Each section has added fields of its own.
            values[name] = _fingerprinted(value)
        implied = config.before.get(name, field.default if name in config.added else _NOT_IMPLIED)
        if value == implied:
            del values[name]
    return values
