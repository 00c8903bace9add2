"""Checks across cases: duplicates of a patient, outliers, and splits without cases or tumors."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config.paper import PAPER_SHARES
from renalnet.data.cases.findings import COHORT, Code, Finding, Level
from renalnet.data.cases.splits import MIN_VALIDATION, few_validation
from renalnet.data.checks.cohort_facts import CohortFacts, gather
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.signature import to_hu
from renalnet.types import SPLITS, Split

SAME_SCAN_HU: Final = 9.0
"""Root mean square difference of two signatures below which they show the same scan.

Measured on 135 real and painted cases: at most 8 between a case and its flipped, cropped, noisy or resampled copies (to
5 mm slices), at least 19 between two patients.
"""
SAME_KIDNEY_RATIO: Final = 1.03
"""Largest ratio of the kidney volumes of one scan. Resampled copies differed by less than 1.02."""
SAME_TUMOR_RATIO: Final = 1.1
"""Largest ratio of the tumor volumes of one scan; small tumors may differ by `SAME_TUMOR_ML` instead."""
SAME_TUMOR_ML: Final = 0.3
MIN_CASES: Final = 8
"""Smallest number of cases from which outliers and class shares are judged."""
OUTLIER_Z: Final = 5.0
"""Distance of an outlier's logarithm from the median, in robust standard deviations (1.4826 times the median absolute
deviation)."""
MIN_SPREAD: Final = 0.1
"""Smallest standard deviation assumed, so that 1.1 mm is no outlier in a cohort of 1.0 mm."""
MAX_SHARE_RATIO: Final = 2.0
"""Largest plausible ratio to the paper's class shares. The 110 ROIs of KiTS19 are within a ratio of 1.1."""

_BLOCK: Final = 16
"""Rows compared with all others at a time; small, because the distances of ten thousand cases take much memory."""
_KEPT_FIRST: Final[tuple[Split, ...]] = ("test", "validation", "train")
"""Splits in the order in which one of two copies is kept, so that the test cases do not change for a copy elsewhere."""


def check_cohort(facts: Iterable[CaseFacts], splits: Mapping[str, Split], kept: Collection[str] = ()) -> list[Finding]:
    """Return the findings that need more than one case.

    Of two copies of a patient only one gets a finding: never the one in `kept`, and the training case rather than the
    validation or test case. The same image is an error. The same label map, or nearly the same signature and volumes (a
    scan exported again with another spacing, flipped or cropped), is an error across splits and a warning within one.
    A second scan of a patient is not recognised, nor is a label map drawn again whose volume differs by more than 3 %.

    Args:
        facts: those of all cases; iterated once, so that they may come from a file.
        splits: the split of each case.
        kept: cases that a store already holds, which never give way to a copy.
    """
    cohort = gather(facts, splits)
    return [
        *_check_duplicates(cohort, kept),
        *_check_spacing(cohort),
        *_check_kidneys(cohort),
        *_check_shares(cohort),
        *_check_phases(cohort),
        *_check_splits(cohort),
    ]


def _check_duplicates(cohort: CohortFacts, kept: Collection[str]) -> Iterator[Finding]:
    order = sorted(range(len(cohort)), key=lambda row: _precedence(cohort.cases[row], cohort.splits[row], kept))
    found: set[int] = set()
    # The surest sign comes first, because a copy gets only one finding.
    pairs: list[tuple[Code, str, Iterator[tuple[int, int]]]] = [
        ("duplicate-image", "the same image as", _equal(cohort.column("image_digest"), order)),
        ("duplicate-label", "the same label as", _equal(cohort.column("label_digest"), order)),
        ("duplicate-scan", "nearly the same kidney, image and volumes, as", _alike(cohort, order)),
    ]
    labelled = cohort.column("roi_ml") > 0
    for code, likeness, copies in pairs:
        for copy, first in copies:
            # Empty label maps are all equal, without being copies of one patient.
            if copy not in found and (labelled[copy] or code == "duplicate-image"):
                found.add(copy)
                yield _duplicate(cohort, copy, first, code, likeness)


def _precedence(case: str, split: Split, kept: Collection[str]) -> tuple[bool, int, str]:
    """Return a sort key; of two copies of a patient, the case that sorts first is kept."""
    # The name comes last, so that the choice does not depend on the order of the files.
    return case not in kept, _KEPT_FIRST.index(split), case


def _duplicate(cohort: CohortFacts, copy: int, first: int, code: Code, likeness: str) -> Finding:
    one = cohort.splits[first]
    other = cohort.splits[copy]
    across = one != other
    where = f"({one}, this one {other})" if across else f"(both {one})"
    remedy = "keep one of them, so that no patient is in two splits" if across else "keep one of them"
    level: Level = "error" if across or code == "duplicate-image" else "warning"
    return Finding(cohort.cases[copy], level, code, f"{likeness} case '{cohort.cases[first]}' {where}; {remedy}")


def _equal(digests: NDArray[Any], order: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (row, earlier row of `order`) for each row whose digest an earlier row has too."""
    first_of: dict[bytes, int] = {}
    for row in order:
        first = first_of.setdefault(digests[row], row)
        if first != row:
            yield row, first


def _alike(cohort: CohortFacts, order: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (row, first earlier row of `order`) for each row that nearly has that row's signature and volumes."""
    rows = np.array(order, int)
    cells = to_hu(cohort.column("signature")[rows])
    squares = np.einsum("ij,ij->i", cells, cells)
    kidney, tumor = (cohort.column(name)[rows] for name in ("roi_kidney_ml", "roi_tumor_ml"))
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        # |a - b|² = |a|² + |b|² - 2ab: one product of matrices instead of an array (block, rows, cells).
        distance = squares[start:stop, None] + squares[:stop] - 2 * cells[start:stop] @ cells[:stop].T
        near = distance < SAME_SCAN_HU**2 * cells.shape[1]
        near &= _close(kidney[start:stop], kidney[:stop], SAME_KIDNEY_RATIO, 0.0)
        near &= _close(tumor[start:stop], tumor[:stop], SAME_TUMOR_RATIO, SAME_TUMOR_ML)
        # A row is compared with earlier ones only: each pair once, and no row with itself.
        near &= np.arange(stop) < np.arange(start, stop)[:, None]
        for later in np.flatnonzero(near.any(axis=1)):
            yield int(rows[start + later]), int(rows[near[later].argmax()])


def _close(one: NDArray[Any], other: NDArray[Any], ratio: float, difference: float) -> NDArray[np.bool_]:
    """Return which pairs of volumes are within either a ratio or a difference, shape (one, other)."""
    small = np.minimum(one[:, None], other)
    large = np.maximum(one[:, None], other)
    return np.asarray(large <= np.maximum(small * ratio, small + difference))


def _check_spacing(cohort: CohortFacts) -> Iterator[Finding]:
    spacing = cohort.column("spacing_mm")
    odd = sorted({row for axis in range(3) for row in _outliers(spacing[:, axis])})
    usual = "×".join(f"{value:g}" for value in np.median(spacing, axis=0)) if odd else ""
    for row in odd:
        own = "×".join(f"{value:g}" for value in spacing[row])
        message = f"spacing {own} mm, the cohort's median is {usual}; check the header"
        yield Finding(cohort.cases[row], "warning", "spacing-outlier", message)


def _check_kidneys(cohort: CohortFacts) -> Iterator[Finding]:
    volumes = cohort.column("roi_kidney_ml")
    for row in _outliers(volumes):
        usual = f"the cohort's median is {np.median(volumes[volumes > 0]):.0f}"
        message = f"kidney of {volumes[row]:.0f} ml, {usual}; check the label map and the spacing"
        yield Finding(cohort.cases[row], "warning", "kidney-volume-outlier", message)


def _outliers(values: NDArray[Any]) -> list[int]:
    """Return the rows of positive values beyond `OUTLIER_Z`; none where there are fewer than `MIN_CASES`."""
    rows = np.flatnonzero(values > 0)
    if len(rows) < MIN_CASES:
        return []
    # Volumes and spacings vary by ratios. Median and median deviation are hardly moved by the outliers themselves.
    logs = np.log(values[rows])
    off = np.abs(logs - np.median(logs))
    spread = max(1.4826 * float(np.median(off)), MIN_SPREAD)
    return [int(row) for row in rows[off > OUTLIER_Z * spread]]


def _check_shares(cohort: CohortFacts) -> Iterator[Finding]:
    """Check the class shares over the summed volume of all ROIs, from `MIN_CASES` cases on."""
    # The columns are float32; a sum over many cases needs more digits.
    total = cohort.column("roi_ml").sum(dtype=float)
    if len(cohort) < MIN_CASES or total == 0:
        return
    for name in ("kidney", "tumor"):
        paper = PAPER_SHARES[name]
        share = cohort.column(f"roi_{name}_ml").sum(dtype=float) / total
        if not paper / MAX_SHARE_RATIO <= share <= paper * MAX_SHARE_RATIO:
            rule = f"the paper has {paper:.2%}"
            message = f"{name} fills {share:.2%} of the ROIs, {rule}; check the label maps and the weights of the loss"
            yield Finding(COHORT, "warning", "class-shares", message)


def _check_phases(cohort: CohortFacts) -> Iterator[Finding]:
    unenhanced = np.flatnonzero(cohort.column("phase") == "unenhanced")
    if len(unenhanced):
        first = ", ".join(cohort.cases[row] for row in unenhanced[:3])
        mixed = f"{len(unenhanced)} of {len(cohort)} cases look unenhanced ({first})"
        message = f"{mixed}, the paper's are in arterial phase; leave them out or expect a lower Dice"
        yield Finding(COHORT, "warning", "phase", message)


def _check_splits(cohort: CohortFacts) -> Iterator[Finding]:
    for split in SPLITS:
        inside = cohort.in_split(split)
        if not inside.any():
            message = f"split '{split}' is empty; add cases or a splits file"
            yield Finding(COHORT, "warning", "split-empty", message)
        elif not (cohort.column("tumor_ml")[inside] > 0).any():
            message = f"no case of split '{split}' has a tumor, so that its tumor metrics are undefined; add such cases"
            yield Finding(COHORT, "warning", "split-no-tumor", message)
    num_validation = int(cohort.in_split("validation").sum())
    if 0 < num_validation < MIN_VALIDATION:
        yield Finding(COHORT, "warning", "split-few", few_validation(num_validation))
