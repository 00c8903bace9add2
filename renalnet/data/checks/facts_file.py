"""Facts of many cases as one Parquet file, read a few cases at a time."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.data.checks.facts import CaseFacts

_SCHEMA: Final = pa.schema([("facts", pa.string())])
_CASES_A_GROUP: Final = 256


def facts_to_bytes(facts: Iterable[CaseFacts]) -> bytes:
    """A Parquet file of facts, in their order; `facts` is read once."""
    rows, sink = iter(facts), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        while group := [{"facts": json.dumps(asdict(one))} for one in islice(rows, _CASES_A_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
    return bytes(sink.getvalue())


def facts_from_bytes(content: bytes) -> Iterator[CaseFacts]:
    """Read what `facts_to_bytes` wrote. Raises arrow's errors, and TypeError or ValueError for other content."""
    with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
        for batch in file.iter_batches(_CASES_A_GROUP):
            yield from (CaseFacts(**json.loads(row)) for row in batch.column("facts").to_pylist())
