"""The files that report the checks of a cohort, on any `pyarrow.fs` path.

DIR/validation.csv  one row per case, for people: number of errors and warnings, the joined findings, the facts
DIR/findings.json   list of case, level, code and message, for programs; findings of the whole cohort included
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from renalnet.data.cases.findings import COHORT, Finding
from renalnet.data.checks.facts import CaseFacts
from renalnet.runtime import storage

FACTS_FILE: Final = "validation.csv"
FINDINGS_FILE: Final = "findings.json"
_FACTS: Final = tuple(field.name for field in fields(CaseFacts))
_COLUMNS: Final = ("case", "num_errors", "num_warnings", "findings", *_FACTS[1:])
"""Columns of the table; the facts are those of `CaseFacts`, whose first field is the case."""


def write_validation(path: str | Path, facts: Iterable[CaseFacts], findings: Iterable[Finding]) -> None:
    """Write both files into the folder `path`; `facts` are iterated once, row by row.

    A case that has findings but no facts, because it could not be read, gets a row with its findings alone.
    """
    listed = list(findings)
    # The csv module asks for this, so that it alone decides the line ends.
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(facts, listed))
    storage.write_json(storage.join(path, FINDINGS_FILE), [asdict(finding) for finding in listed])
    storage.write_bytes(storage.join(path, FACTS_FILE), text.getvalue().encode())


def _rows(facts: Iterable[CaseFacts], findings: list[Finding]) -> Iterator[dict[str, Any]]:
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        found[finding.case].append(finding)
    # They belong to no row of the table; `findings.json` has them.
    found.pop(COHORT, None)
    for one in facts:
        yield {**asdict(one), **_counted(found.pop(one.case, []))}
    for case, rest in found.items():
        yield {"case": case, **_counted(rest)}


def _counted(findings: list[Finding]) -> dict[str, Any]:
    num_errors = sum(finding.level == "error" for finding in findings)
    joined = "; ".join(f"{finding.code}: {finding.message}" for finding in findings)
    return {"num_errors": num_errors, "num_warnings": len(findings) - num_errors, "findings": joined}
