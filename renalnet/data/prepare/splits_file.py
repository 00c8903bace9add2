"""`splits.csv` of a store: who is trained on, validated on and held out, and what the cases were drawn by."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from renalnet.data.cases.splits import Stratum
from renalnet.data.checks.facts import CaseFacts
from renalnet.runtime import storage
from renalnet.types import Split

SPLITS_FILE: Final = "splits.csv"
_COLUMNS: Final = ("case", "split", "kidney_ml", "tumor_ml", "spacing_z_mm")


def stratum_of(facts: CaseFacts) -> Stratum:
    """Return what a case is drawn by."""
    has_tumor = facts.tumor_ml > 0
    return Stratum(has_tumor, facts.tumor_ml if has_tumor else facts.kidney_ml, facts.spacing_z_mm)


def write_splits(path: str | Path, facts: Iterable[CaseFacts], splits: Mapping[str, Split]) -> None:
    """Write `splits.csv` into the folder `path`, one row per case, sorted by name.

    Args:
        path: folder or URI.
        facts: those of the cases. A case without facts, as in stores of older versions, has empty values.
        splits: the split of each case.
    """
    values = {one.case: (f"{one.kidney_ml:.1f}", f"{one.tumor_ml:.1f}", f"{one.spacing_z_mm:g}") for one in facts}
    # The csv module asks for this, so that it alone decides the line ends.
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((case, splits[case], *values.get(case, ("", "", ""))) for case in sorted(splits))
    storage.write_bytes(storage.join(path, SPLITS_FILE), text.getvalue().encode())
