"""Rows of values as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence


def to_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return rows as UTF-8 CSV text.

    The header has the names of all rows, in order of appearance. A value that is None or missing is an empty cell.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO(newline="")
    # "\n" instead of the csv module's "\r\n", so that the file is the same to line-based tools.
    writer = csv.DictWriter(stream, fieldnames=names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()
