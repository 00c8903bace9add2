"""Parquet schemas from dataclasses: each table of a store is declared once, as the dataclass of its rows."""

from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import pyarrow as pa

Text: TypeAlias = Annotated[str, pa.string()]
Texts: TypeAlias = Annotated[list[str], pa.list_(pa.string())]
Int32: TypeAlias = Annotated[int, pa.int32()]
Int64: TypeAlias = Annotated[int, pa.int64()]
Float64: TypeAlias = Annotated[float, pa.float64()]
Binary: TypeAlias = Annotated[bytes, pa.large_binary()]
"""Large, because the offsets of an ordinary binary column end at 2 GiB."""


def schema_of(row_type: type[Any]) -> pa.Schema:
    """Return the schema of a table whose rows are a dataclass.

    The columns are the fields of the dataclass in their order; each field is annotated with its arrow type.
    """
    hints = get_type_hints(row_type, include_extras=True)
    return pa.schema([(name, get_args(hint)[1]) for name, hint in hints.items()])
