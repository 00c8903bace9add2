"""Facts of many cases in one Parquet file, which is read a few cases at a time."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.data.checks.facts import CaseFacts
from renalnet.json_text import parse_json

_SCHEMA: Final = pa.schema([("facts", pa.string())])
"""One JSON object per case, so that the columns need not repeat the fields of `CaseFacts`."""
_CASES_PER_GROUP: Final = 256
"""Cases that are in memory at a time."""


def facts_to_bytes(facts: Iterable[CaseFacts]) -> bytes:
    """Return the content of a Parquet file with the facts, in their order; `facts` are iterated once."""
    rows = iter(facts)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        while group := [{"facts": json.dumps(asdict(one))} for one in islice(rows, _CASES_PER_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
    return bytes(sink.getvalue())


def facts_from_bytes(content: bytes) -> Iterator[CaseFacts]:
    """Yield the facts in a file that `facts_to_bytes` wrote.

    Raises:
        pyarrow.ArrowException: the content is damaged or no Parquet file.
        TypeError, ValueError: the content is not that of a facts file.
    """
    with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
        for batch in file.iter_batches(_CASES_PER_GROUP):
            yield from (CaseFacts(**parse_json(row)) for row in batch.column("facts").to_pylist())
