"""Fields of a configuration whose value is a name in a table.

The entries of a table are text, `module:name`, which `pkgutil.resolve_name` imports only when the name is used.
"""

from collections.abc import Mapping

from pydantic import AfterValidator, WithJsonSchema


def name_in(table: Mapping[str, object], kind: str) -> AfterValidator:
    """Return the validator of a field whose value is a key of `table`; `kind` is the noun in its error message."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"unknown {kind}; it must be one of {', '.join(table)}")
        return name

    return AfterValidator(check)


def names_of(table: Mapping[str, object]) -> WithJsonSchema:
    """Return the JSON schema of a field whose value is a key of `table`."""
    # Pydantic cannot tell the names from a validator that is a function.
    return WithJsonSchema({"enum": list(table), "type": "string"})
