"""Tables on any path that `renalnet.runtime.storage` knows: dataclasses as rows of a Parquet file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.config.label_columns import flat, gathered
from renalnet.errors import ResultsError
from renalnet.runtime import storage

if TYPE_CHECKING:
    # `_typeshed` exists for type checkers only, so annotations that use it are strings.
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

MAY_BE_ABSENT: Final = {"may_be_absent": True}
"""Metadata of a field whose column is left out of a file in which no row has a value."""


def write_rows(path: str, rows: "Sequence[DataclassInstance]") -> None:
    """Write rows of one type as a Parquet file, whole or not at all.

    The fields are the columns, in their order; a field by label has a column for each label. Types are inferred from
    the values, so a column of None has the type `null`, and a file without rows has no columns.
    """
    absent = {each.name for each in fields(rows[0]) if _is_absent(each, rows)} if rows else set[str]()
    records = [{name: value for name, value in flat(row).items() if name not in absent} for row in rows]
    table = pa.Table.from_pylist(records)
    # In memory first: a reader never sees a part of the file, and the path may be on an object store.
    sink = pa.BufferOutputStream()
    # Without checksums, a changed bit may be another value.
    pq.write_table(table, sink, write_page_checksum=True)
    storage.write_bytes(path, sink.getvalue().to_pybytes())


def _is_absent(column: "Field[Any]", rows: "Sequence[DataclassInstance]") -> bool:
    return column.metadata == MAY_BE_ABSENT and all(getattr(row, column.name) is None for row in rows)


def find_rows(path: str, row_type: "type[Row]") -> "list[Row] | None":
    """Run `read_rows`, but return None where the file is missing."""
    try:
        return read_rows(path, row_type)
    except FileNotFoundError:
        return None


def read_rows(path: str, row_type: "type[Row]") -> "list[Row]":
    """Read a Parquet file as rows.

    Raises:
        FileNotFoundError: the file is missing.
        ResultsError: the file is damaged, or a row has no value for a field without default.
    """
    content = storage.read_bytes(path)
    try:
        records = _records_of(content)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(f"{error}".split())
        raise ResultsError(f"{path} is not readable Parquet ({reason}); run the study's command again") from error
    return [row_of(path, row_type, record) for record in records]


def read_parquet(path: str) -> list[dict[str, Any]]:
    """Read a Parquet file as dictionaries, with all of its columns. Raises FileNotFoundError."""
    return _records_of(storage.read_bytes(path))


def _records_of(content: bytes) -> list[dict[str, Any]]:
    table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    records: list[dict[str, Any]] = table.to_pylist()
    return records


def row_of(path: str, row_type: "type[Row]", record: Mapping[str, Any]) -> "Row":
    """Return a record of the file `path` as a row. A column that the type does not declare is ignored.

    A value that is null, NaN or missing is replaced by the default of its field, so files of earlier versions with
    fewer columns can be read.

    Raises:
        ResultsError: a field without default has no value.
    """
    present = gathered(row_type, {name: value for name, value in record.items() if not _is_null(value)})
    required = [each.name for each in fields(row_type) if each.default is each.default_factory is MISSING]
    missing = [name for name in required if name not in present]
    if missing:
        raise ResultsError(
            f"{path}: a row has no value for {', '.join(missing)}; it was written by another version: run the study's "
            "command again"
        )
    return row_type(**present)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
