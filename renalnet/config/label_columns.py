"""Rows with a column for each label: a field of a dataclass that is a mapping by label name.

Such a field is declared once, with the pattern of its columns. `flat` and `gathered` convert between a row and its
columns, so that a table has the columns of its own label set.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, field, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # `_typeshed` exists for type checkers only, so annotations that use it are strings.
    from _typeshed import DataclassInstance

_PATTERN: Final = "label_columns"


def by_label(pattern: str) -> Any:
    """Return the dataclass field of a mapping by label name, by default empty.

    Args:
        pattern: name of a column, with `{}` for the label's name, such as `dice_{}`.
    """
    return field(default_factory=dict, metadata={_PATTERN: pattern})


def flat(row: "DataclassInstance", names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the columns of a row, with a column for each label of its mappings.

    Args:
        row: the row.
        names: fields whose columns are returned, in this order; None for all fields in their order.
    """
    declared = {each.name: each for each in fields(row)}
    columns: dict[str, Any] = {}
    for name in declared if names is None else names:
        value = getattr(row, name)
        pattern = pattern_of(declared[name])
        columns |= {pattern.format(label): one for label, one in value.items()} if pattern else {name: value}
    return columns


def gathered(row_type: "type[DataclassInstance]", columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields of a row from its columns. A column that belongs to no field is left out."""
    plain = {each.name for each in fields(row_type) if not pattern_of(each)}
    values = {name: value for name, value in columns.items() if name in plain}
    for each in fields(row_type):
        if pattern := pattern_of(each):
            values[each.name] = dict(_of_labels(pattern, columns, plain))
    return values


def pattern_of(each: "Field[Any]") -> str | None:
    """Return the pattern of a field's columns; None for a field that is one column."""
    pattern: str | None = each.metadata.get(_PATTERN)
    return pattern


def _of_labels(pattern: str, columns: Mapping[str, Any], plain: set[str]) -> Iterator[tuple[str, Any]]:
    start, end = pattern.split("{}")
    for name, value in columns.items():
        if name not in plain and name.startswith(start) and name.endswith(end) and len(name) > len(start + end):
            yield name[len(start) : len(name) - len(end)], value
