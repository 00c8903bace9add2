"""Parquet schemas from dataclasses: each table of a store is declared once, as the dataclass of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

import pyarrow as pa

from renalnet.config import LabelSet

AnyRow = TypeVar("AnyRow")

Text: TypeAlias = Annotated[str, pa.string()]
Texts: TypeAlias = Annotated[list[str], pa.list_(pa.string())]
Int32: TypeAlias = Annotated[int, pa.int32()]
Int64: TypeAlias = Annotated[int, pa.int64()]
Float64: TypeAlias = Annotated[float, pa.float64()]
Binary: TypeAlias = Annotated[bytes, pa.large_binary()]
"""Large, because the offsets of an ordinary binary column end at 2 GiB."""


@dataclass(frozen=True)
class ByName:
    """Annotation of a field that is a mapping by label name: one column of `arrow` for each name."""

    pattern: str
    """Name of a column, with `{}` for the label's name."""
    arrow: pa.DataType
    has_background: bool
    """Whether background has a column as well, before those of the labels."""

    def columns(self, labels: LabelSet) -> tuple[str, ...]:
        """Return the names of the columns, by value."""
        return tuple(
            self.pattern.format(name) for name in (labels.class_names if self.has_background else labels.names)
        )


Counts: TypeAlias = Annotated[Mapping[str, int], ByName("num_{}", pa.int64(), has_background=True)]
"""Voxels of each class by its name, `background` first."""
Anchors: TypeAlias = Annotated[Mapping[str, bytes], ByName("{}_anchors", pa.large_binary(), has_background=False)]
"""Some voxels of each label by its name, see `draw_anchors`."""


def schema_of(row_type: type[Any], labels: LabelSet) -> pa.Schema:
    """Return the schema of a table whose rows are a dataclass.

    The columns are the fields of the dataclass in their order; each field is annotated with its arrow type. A field by
    label name has a column for each.
    """
    return pa.schema([column for hint in _hints(row_type).items() for column in _columns(*hint, labels)])


def columns_of(row_type: type[Any], field: str, labels: LabelSet) -> tuple[str, ...]:
    """Return the names of the columns of one field."""
    return tuple(name for name, _ in _columns(field, _hints(row_type)[field], labels))


def record_of(row: Any) -> dict[str, Any]:
    """Return a row as a value for each column."""
    record: dict[str, Any] = {}
    for name, arrow in _hints(type(row)).items():
        value = getattr(row, name)
        record |= (
            {arrow.pattern.format(key): one for key, one in value.items()}
            if isinstance(arrow, ByName)
            else {name: value}
        )
    return record


def row_of(row_type: type[AnyRow], record: Mapping[str, Any], labels: LabelSet) -> AnyRow:
    """Return the row that `record_of` gave as columns. Raises KeyError where a column is missing."""
    values: dict[str, Any] = {}
    for name, arrow in _hints(row_type).items():
        if isinstance(arrow, ByName):
            names = labels.class_names if arrow.has_background else labels.names
            values[name] = {key: record[arrow.pattern.format(key)] for key in names}
        else:
            values[name] = record[name]
    return row_type(**values)


def _hints(row_type: type[Any]) -> dict[str, Any]:
    """Return the arrow type, or the `ByName`, of each field."""
    return {each.name: get_args(each.type)[1] for each in fields(row_type)}


def _columns(name: str, arrow: Any, labels: LabelSet) -> list[tuple[str, pa.DataType]]:
    if isinstance(arrow, ByName):
        return [(column, arrow.arrow) for column in arrow.columns(labels)]
    return [(name, arrow)]
