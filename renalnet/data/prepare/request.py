"""The request of a preparation, and the search for its scans."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from renalnet.config import PrepareConfig
from renalnet.data.cases.findings import COHORT, Finding
from renalnet.data.cases.layouts import FoundCases, find_cases
from renalnet.data.phantom import COHORT_FILE
from renalnet.errors import InputError
from renalnet.types import Split

NUM_NAMED: Final = 5
"""Entries that a warning lists by name."""


@dataclass(frozen=True)
class Request:
    """Arguments of a preparation."""

    src: str | Path
    """Folder of labelled scans."""
    out: str | Path
    """Folder of the store; cases are added where it has a store."""
    config: PrepareConfig
    """Settings by which ROIs are cut; they must equal those of an existing store."""
    test_src: str | Path | None = None
    """A second folder of labelled scans, which are all test cases."""
    splits: Mapping[str, Split] | None = None
    """Splits of some or all cases; the others are drawn (see `assign_splits`)."""
    label_map: Mapping[int, int] | None = None
    """Map from the labels in the files to the values of `config.labels`; None where the files use these."""
    series: str | None = None
    """Number or UID of the DICOM series to read where a folder has several."""
    phase: str | None = None
    """Number or time of the acquisition to read where a series has several phases."""
    skip_bad: bool = False
    """Whether to leave out scans with errors instead of stopping."""
    refit: bool = False
    """Whether to compute the mean again over all training cases, and the atlases from those in `src`."""


def find_all(request: Request) -> tuple[FoundCases, list[str]]:
    """Return the scans of both folders, and the names of the test cases in `test_src`.

    Raises:
        InputError: a folder cannot be read, or a case is in both folders.
    """
    find = partial(
        find_cases,
        labels=request.config.labels,
        label_map=request.label_map,
        series=request.series,
        phase=request.phase,
    )
    first = find(request.src)
    second = find(request.test_src) if request.test_src else FoundCases()
    held_out = [scan.case for scan in second.cases]
    # Names identify cases, so equal names in both folders would mix training and test cases.
    twice = {scan.case for scan in first.cases} & set(held_out)
    if twice:
        raise InputError(
            f"case '{min(twice)}' is in {request.src} and in {request.test_src}; remove or rename one of them"
        )
    cases = sorted([*first.cases, *second.cases], key=lambda scan: scan.case)
    return FoundCases(tuple(cases), first.problems + second.problems, first.passed_over + second.passed_over), held_out


def passed_over(found: FoundCases) -> list[Finding]:
    """Return one warning that lists the first entries that are no case; empty where every entry is a case."""
    if not found.passed_over:
        return []
    named = ", ".join(found.passed_over[:NUM_NAMED]) + (", …" if len(found.passed_over) > NUM_NAMED else "")
    count = len(found.passed_over)
    entries = f"{count} {'entry is' if count == 1 else 'entries are'}"
    message = f"{entries} no case: {named}; check whether they should be"
    return [Finding(COHORT, "warning", "passed-over", message)]


def is_synthetic(*sources: str | Path | None) -> bool:
    """Return whether any of the folders is a painted cohort."""
    return any((Path(source) / COHORT_FILE).is_file() for source in sources if source)
