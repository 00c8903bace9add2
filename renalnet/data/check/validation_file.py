"""The validation of a cohort on disk, on any `pyarrow.fs` path: a table a person opens, findings a program reads.

DIR/validation.csv  a row a case: its facts, the number of errors and warnings, the findings joined
DIR/findings.json   a list of case, level, code and message, those of the cohort too
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from renalnet import storage
from renalnet.data.check.facts import CaseFacts
from renalnet.data.check.findings import COHORT, Finding
from renalnet.errors import InputError

FACTS_FILE: Final = "validation.csv"
FINDINGS_FILE: Final = "findings.json"
_FACTS: Final = tuple(field.name for field in fields(CaseFacts))
_COLUMNS: Final = ("case", "num_errors", "num_warnings", "findings", *_FACTS[1:])
_PARSERS: Final[dict[Any, Callable[[str], Any]]] = {
    bool: lambda text: {"True": True, "False": False}[text],
    int: int,
    float: float,
    float | None: lambda text: float(text) if text else None,
}


@dataclass(frozen=True)
class Validation:
    """What `read_validation` finds."""

    facts: list[CaseFacts]
    """Those of the cases that could be read."""
    findings: list[Finding]


def write_validation(path: str | Path, facts: Iterable[CaseFacts], findings: Iterable[Finding]) -> None:
    """Write both files into the folder `path`; `facts` is read once, a row at a time.

    A case with findings and no facts, because it could not be read, gets a row with its findings alone.
    """
    listed = list(findings)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(facts, listed))
    storage.write_json(storage.join(path, FINDINGS_FILE), [asdict(finding) for finding in listed])
    storage.write_bytes(storage.join(path, FACTS_FILE), text.getvalue().encode())


def read_validation(path: str | Path) -> Validation:
    """Read what `write_validation` wrote into the folder `path`.

    Raises:
        FileNotFoundError: one of the files is not there.
        InputError: one of them is not as it was written.
    """
    return Validation(list(read_facts(path)), _read_findings(path))


def read_facts(path: str | Path) -> Iterator[CaseFacts]:
    """The facts alone, one at a time. Raises as `read_validation` does."""
    where = storage.join(path, FACTS_FILE)
    try:
        yield from _facts(storage.read_bytes(where))
    except (ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{where}: not a table of facts ({error}); prepare again to write it anew") from error


def _facts(content: bytes) -> Iterator[CaseFacts]:
    table = csv.DictReader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""))
    if tuple(table.fieldnames or ()) != _COLUMNS or not content.endswith(b"\n"):
        raise ValueError("other columns, or it ends within a row")
    for row in table:
        if None in row or None in row.values():
            raise ValueError(f"line {table.line_num} has more or fewer cells than columns")
        if row["num_slices"]:
            yield CaseFacts(**{field.name: _parse(field.type, row[field.name]) for field in fields(CaseFacts)})


def _read_findings(path: str | Path) -> list[Finding]:
    where = storage.join(path, FINDINGS_FILE)
    try:
        return [Finding(**values) for values in storage.read_json(where)]
    except TypeError as error:
        raise InputError(f"{where}: not a list of findings ({error}); prepare again to write it anew") from error


def _rows(facts: Iterable[CaseFacts], findings: list[Finding]) -> Iterator[dict[str, Any]]:
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        found[finding.case].append(finding)
    found.pop(COHORT, None)
    for one in facts:
        yield {**asdict(one), **_counted(found.pop(one.case, []))}
    for case, rest in found.items():
        yield {"case": case, **_counted(rest)}


def _counted(findings: list[Finding]) -> dict[str, Any]:
    num_errors = sum(finding.level == "error" for finding in findings)
    words = "; ".join(f"{finding.code}: {finding.message}" for finding in findings)
    return {"num_errors": num_errors, "num_warnings": len(findings) - num_errors, "findings": words}


def _parse(kind: Any, text: str) -> Any:
    return _PARSERS.get(kind, str)(text)
