"""The validation of a cohort on disk, on any `pyarrow.fs` path: a table a person opens, findings a program reads.

DIR/validation.csv  a row a case: its facts, the number of errors and warnings, the findings joined
DIR/findings.json   a list of case, level, code and message, those of the cohort too
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
