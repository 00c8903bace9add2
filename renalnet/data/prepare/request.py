"""What a preparation is asked for, and the scans that this names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from renalnet.config import PrepareConfig
from renalnet.data.cases.findings import COHORT, Finding
from renalnet.data.cases.layouts import Found, find_layout
from renalnet.data.phantom import COHORT_FILE
from renalnet.errors import InputError
from renalnet.types import Split

NUM_NAMED: Final = 5


@dataclass(frozen=True)
class Request:
    """What is to be prepared."""

    src: str | Path
    """Folder of labelled scans."""
    out: str | Path
    """The store; patients are added to one that is there."""
    config: PrepareConfig
    """How ROIs are cut; of a store that is there, its own."""
    test_src: str | Path | None = None
    """A second folder, whose patients are all held out."""
    splits: Mapping[str, Split] | None = None
    """Splits of some or all patients; the others are drawn (see `assign_splits`)."""
    label_map: Mapping[int, int] | None = None
    """What the files' labels are among ours, where they are others."""
    series: str | None = None
    """Which DICOM series of a folder that holds several."""
    skip_bad: bool = False
    """Go on without the scans that have errors."""
    refit: bool = False
    """Take the mean anew over all training patients, and the atlases from those in `src`."""


def find_all(request: Request) -> tuple[Found, list[str]]:
    """What both folders hold, and the names of those that are held out."""
    find = partial(find_layout, label_map=request.label_map, series=request.series)
    first, second = find(request.src), find(request.test_src) if request.test_src else Found()
    held_out = [scan.case for scan in second.cases]
    twice = {scan.case for scan in first.cases} & set(held_out)
    if twice:
        raise InputError(
            f"case '{min(twice)}' is in {request.src} and in {request.test_src}; remove or rename one of them"
        )
    cases = sorted([*first.cases, *second.cases], key=lambda scan: scan.case)
    problems, passed_over = first.problems + second.problems, first.passed_over + second.passed_over
    return Found(tuple(cases), problems, passed_over), held_out


def passed_over(found: Found) -> list[Finding]:
    """A warning that names a few of what is no case; none where all is."""
    if not found.passed_over:
        return []
    named = ", ".join(found.passed_over[:NUM_NAMED]) + (", …" if len(found.passed_over) > NUM_NAMED else "")
    count = len(found.passed_over)
    words = f"{count} {'entry is' if count == 1 else 'entries are'} no case: {named}; look whether they should be"
    return [Finding(COHORT, "warning", "passed-over", words)]


def is_synthetic(*sources: str | Path | None) -> bool:
    """Whether any of the folders was written by the phantom painter."""
    return any((Path(source) / COHORT_FILE).is_file() for source in sources if source)
