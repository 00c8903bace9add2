"""docs/configuration.md: every key of a configuration, from the typed sections.

`python tests/support/configuration_page.py` writes it.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":  # as a script, which has its own folder on its path instead of the project
    sys.path.insert(0, str(ROOT))

from renalnet.config import KIDNEY_TUMOR, LabelSet, Section  # noqa: E402
from study.config.presets import STUDY_PRESETS  # noqa: E402
from study.config.sections import StudyConfig  # noqa: E402

PAGE: Final = ROOT / "docs" / "configuration.md"
_INTRODUCTION: Final = """\
# Configuration

All keys of a study's configuration, with their defaults. This page is made from the classes in `renalnet/config` and
`study/config` by `python tests/support/configuration_page.py`.

`--set KEY=VALUE` changes one value, and `--config FILE` of `study.run` changes many. Values are YAML: `null`, `true`,
`[1, 2]`. The keys are the same in all commands. Each command takes those of its own section, with or without the name
of the section:

| command | section |
|---|---|
| `study.run` | all |
| `renalnet train`, `renalnet describe` | `train` |
| `renalnet prepare`, `study.prepare` | `prepare` |
| `renalnet phantom` | `phantom` |
| `renalnet predict`, `study.predict` | `final.stitch`, `final.crf`, `final.components` |

The defaults below are those of the paper or of this project. [Presets](#presets) change some of them. Lengths are in
mm, triples are (z, y, x).
"""
_BOUNDS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_NUMBERS: Final = {int: "integer", float: "number", bool: "true or false", str: "text"}


def page() -> str:
    """Return the whole page."""
    sections = "\n".join(_section("", StudyConfig, StudyConfig()))
    return f"{_INTRODUCTION}\n{sections}\n{_presets()}"


def _section(key: str, section: type[Section], values: Section) -> Iterator[str]:
    yield f"## {key or 'Study'}\n"
    yield f"{_prose(section.__doc__)}\n"
    inner = {name: getattr(values, name) for name in section.model_fields if _is_section(getattr(values, name))}
    plain = {name: info for name, info in section.model_fields.items() if name not in inner}
    # The fields of a section's labels, which are named by the label set.
    others: dict[str, Any] = dict(values.__pydantic_extra__ or {})
    if plain or others:
        yield "| key | value | default | meaning |"
        yield "|---|---|---|---|"
        for name, info in plain.items():
            cells = (_kind(info.annotation, info.metadata), _default(getattr(values, name)), _prose(info.description))
            yield _row(f"`{_joined(key, name)}`", *cells)
        for name, value in others.items():
            yield _row(f"`{_joined(key, name)}`", "of a label", _default(value), "see above")
        yield ""
    for name, value in inner.items():
        yield from _section(_joined(key, name), type(value), value)


def _is_section(value: object) -> bool:
    # A label set is one value: the name of a set or of a file.
    return isinstance(value, Section) and not isinstance(value, LabelSet)


def _presets() -> str:
    """Return a table of the keys in which presets differ from the defaults."""
    columns = {name: dict(_flat(make().model_dump(mode="json"))) for name, make in STUDY_PRESETS.items()}
    base = dict(_flat(StudyConfig().model_dump(mode="json")))
    others = list(columns.values())
    keys = [key for key in base if key != "preset" and any(column[key] != base[key] for column in others)]
    rows = [_row(f"`{key}`", *(_default(column[key]) for column in columns.values())) for key in keys]
    head = [_row("key", *columns), "|" + "---|" * (len(columns) + 1)]
    return "## Presets\n\nThe keys in which a preset differs from the defaults.\n\n" + "\n".join([*head, *rows]) + "\n"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "labels":
            yield from _flat(value, _joined(prefix, name))
        else:
            yield _joined(prefix, name), value


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


def _default(value: Any) -> str:
    if isinstance(value, LabelSet | Mapping):
        return f"`{KIDNEY_TUMOR.name}`"
    if value is None:
        return "`null`"
    if isinstance(value, tuple | list):
        return "`[" + ", ".join(_default(each).strip("`") for each in value) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "empty"


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """Return the values of a field in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [*more, *metadata])
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        words = " or ".join(dict.fromkeys(_kind(part, metadata) for part in parts))
        return f"{words}, or null" if NoneType in get_args(annotation) else words
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return _tuple_kind(get_args(annotation))
    bounds = _bounds(metadata)
    return f"{_NUMBERS.get(annotation, 'label set')}{bounds}"


def _tuple_kind(parts: tuple[Any, ...]) -> str:
    first = _kind(parts[0], [])
    return f"list of {first}" if parts[-1] is Ellipsis else f"{len(parts)} × {first}"


def _bounds(metadata: list[Any]) -> str:
    stated = [each for one in metadata for each in (one.metadata if isinstance(one, FieldInfo) else [one])]
    words = [f"{sign} {getattr(one, name)}" for one in stated for name, sign in _BOUNDS.items() if hasattr(one, name)]
    return f" {', '.join(words)}" if words else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
