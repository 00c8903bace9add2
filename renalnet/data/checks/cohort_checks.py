"""Checks between cases: a patient who comes twice, cases unlike the others, splits that cannot do their work."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.cases.findings import COHORT, Code, Finding, Level
from renalnet.data.checks.cohort_facts import CohortFacts, gather
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.signature import to_hu
from renalnet.types import SPLITS, Split

PAPER_SHARES: Final = {"background": 0.8064, "kidney": 0.1693, "tumor": 0.0243}
"""Shares of the volume of the paper's ROIs (II.B.3)."""
SAME_SCAN_HU: Final = 9.0
"""Root mean square difference of two signatures below which they show one scan. Measured on 135 real and
painted cases: at most 8 between a case and its flipped, cropped, noisy or resampled copies (to 5 mm slices),
at least 19 between two patients."""
SAME_KIDNEY_RATIO: Final = 1.03
"""By which the kidneys' volumes may then differ; resampled copies differed by less than 1.02."""
SAME_TUMOR_RATIO: Final = 1.1
SAME_TUMOR_ML: Final = 0.3
MIN_CASES: Final = 8
"""Fewer say nothing about what is usual."""
OUTLIER_Z: Final = 5.0
"""Robust standard deviations (1.4826 times the median absolute deviation) of the logarithm."""
MIN_SPREAD: Final = 0.1
"""Least standard deviation assumed, so that a cohort of one spacing does not call 1.0 against 1.1 mm odd."""
MAX_SHARE_RATIO: Final = 2.0
"""The 110 ROIs of KiTS19 come within 1.1 of the paper's shares."""

_BLOCK: Final = 16
"""Rows compared with all others at a time: few, so that ten thousand cases need little memory."""
_KEPT_FIRST: Final[tuple[Split, ...]] = ("test", "validation", "train")
"""Splits in the order in which a case may stay: the test cohort is not to change for a copy elsewhere."""


def check_cohort(facts: Iterable[CaseFacts], splits: Mapping[str, Split], kept: Collection[str] = ()) -> list[Finding]:
    """What is wrong between cases. One pass over `facts`, which may come from a file.

    Of a patient who comes twice one case gets the finding: not the kept one, and rather that in training than that in
    validation or test. The same
    image is an error; the same label, or nearly the same signature and volumes (a scan exported again with
    other spacing, flipped or cropped), is an error across splits and a warning within one. A second scan of a patient,
    or a label drawn anew whose volume differs by more than 3 %, is not recognised.

    Args:
        facts: those of all cases.
        splits: the split of each of them.
        kept: cases that are not to be left out for another, because a store holds them already.
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
    pairs: list[tuple[Code, str, Iterator[tuple[int, int]]]] = [
        ("duplicate-image", "the same image as", _equal(cohort.column("image_digest"), order)),
        ("duplicate-label", "the same label as", _equal(cohort.column("label_digest"), order)),
        ("duplicate-scan", "nearly the same kidney, image and volumes, as", _alike(cohort, order)),
    ]
    labelled = cohort.column("roi_ml") > 0
    for code, likeness, copies in pairs:
        for copy, first in copies:
            if copy not in found and (labelled[copy] or code == "duplicate-image"):
                found.add(copy)
                yield _duplicate(cohort, copy, first, code, likeness)


def _precedence(case: str, split: Split, kept: Collection[str]) -> tuple[bool, int, str]:
    """Of a patient who comes twice the case that sorts first stays."""
    return case not in kept, _KEPT_FIRST.index(split), case


def _duplicate(cohort: CohortFacts, copy: int, first: int, code: Code, likeness: str) -> Finding:
    one, other = cohort.splits[first], cohort.splits[copy]
    across = one != other
    where = f"({one}, this one {other})" if across else f"(both {one})"
    remedy = "keep one of them, or one patient is in two splits" if across else "keep one of them"
    level: Level = "error" if across or code == "duplicate-image" else "warning"
    return Finding(cohort.cases[copy], level, code, f"{likeness} case '{cohort.cases[first]}' {where}; {remedy}")


def _equal(digests: NDArray[Any], order: list[int]) -> Iterator[tuple[int, int]]:
    """Rows whose digest an earlier row of `order` has, with that row."""
    first_of: dict[bytes, int] = {}
    for row in order:
        first = first_of.setdefault(digests[row], row)
        if first != row:
            yield row, first


def _alike(cohort: CohortFacts, order: list[int]) -> Iterator[tuple[int, int]]:
    """Rows whose signature and volumes an earlier row of `order` nearly has, with the first such row."""
    rows = np.array(order, int)
    cells = to_hu(cohort.column("signature")[rows])
    squares = np.einsum("ij,ij->i", cells, cells)
    kidney, tumor = (cohort.column(name)[rows] for name in ("roi_kidney_ml", "roi_tumor_ml"))
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        distance = squares[start:stop, None] + squares[:stop] - 2 * cells[start:stop] @ cells[:stop].T
        near = distance < SAME_SCAN_HU**2 * cells.shape[1]
        near &= _close(kidney[start:stop], kidney[:stop], SAME_KIDNEY_RATIO, 0.0)
        near &= _close(tumor[start:stop], tumor[:stop], SAME_TUMOR_RATIO, SAME_TUMOR_ML)
        near &= np.arange(stop) < np.arange(start, stop)[:, None]
        for later in np.flatnonzero(near.any(axis=1)):
            yield int(rows[start + later]), int(rows[near[later].argmax()])


def _close(one: NDArray[Any], other: NDArray[Any], ratio: float, difference: float) -> NDArray[np.bool_]:
    """Which pairs of volumes differ by no more than either a ratio or a difference, (one, other)."""
    small, large = np.minimum(one[:, None], other), np.maximum(one[:, None], other)
    return np.asarray(large <= np.maximum(small * ratio, small + difference))


def _check_spacing(cohort: CohortFacts) -> Iterator[Finding]:
    spacing = cohort.column("spacing_mm")
    odd = sorted({row for axis in range(3) for row in _outliers(spacing[:, axis])})
    usual = "×".join(f"{value:g}" for value in np.median(spacing, axis=0)) if odd else ""
    for row in odd:
        words = "×".join(f"{value:g}" for value in spacing[row])
        message = f"spacing {words} mm, the cohort's median is {usual}; check the header"
        yield Finding(cohort.cases[row], "warning", "spacing-outlier", message)


def _check_kidneys(cohort: CohortFacts) -> Iterator[Finding]:
    volumes = cohort.column("roi_kidney_ml")
    for row in _outliers(volumes):
        usual = f"the cohort's median is {np.median(volumes[volumes > 0]):.0f}"
        message = f"kidney of {volumes[row]:.0f} ml, {usual}; check label and spacing"
        yield Finding(cohort.cases[row], "warning", "kidney-volume-outlier", message)


def _outliers(values: NDArray[Any]) -> list[int]:
    """Rows of positive values far from the median, in robust standard deviations of the logarithm."""
    rows = np.flatnonzero(values > 0)
    if len(rows) < MIN_CASES:
        return []
    logs = np.log(values[rows])
    off = np.abs(logs - np.median(logs))
    spread = max(1.4826 * float(np.median(off)), MIN_SPREAD)
    return [int(row) for row in rows[off > OUTLIER_Z * spread]]


def _check_shares(cohort: CohortFacts) -> Iterator[Finding]:
    """Over all ROIs together, once there are enough of them."""
    total = cohort.column("roi_ml").sum(dtype=float)
    if len(cohort) < MIN_CASES or total == 0:
        return
    for name in ("kidney", "tumor"):
        paper = PAPER_SHARES[name]
        share = cohort.column(f"roi_{name}_ml").sum(dtype=float) / total
        if not paper / MAX_SHARE_RATIO <= share <= paper * MAX_SHARE_RATIO:
            rule = f"the paper has {paper:.2%}"
            message = f"{name} fills {share:.2%} of the ROIs, {rule}; check the labels, and the weights of the loss"
            yield Finding(COHORT, "warning", "class-shares", message)


def _check_phases(cohort: CohortFacts) -> Iterator[Finding]:
    unenhanced = np.flatnonzero(cohort.column("phase") == "unenhanced")
    if len(unenhanced):
        first = ", ".join(cohort.cases[row] for row in unenhanced[:3])
        mixed = f"{len(unenhanced)} of {len(cohort)} cases look unenhanced ({first})"
        message = f"{mixed}, the paper's are in arterial phase; leave them out or expect less"
        yield Finding(COHORT, "warning", "phase", message)


def _check_splits(cohort: CohortFacts) -> Iterator[Finding]:
    for split in SPLITS:
        inside = cohort.in_split(split)
        if not inside.any():
            message = f"split '{split}' is empty; add cases or a splits file"
            yield Finding(COHORT, "warning", "split-empty", message)
        elif not (cohort.column("tumor_ml")[inside] > 0).any():
            message = f"no case of split '{split}' has a tumor; its tumor metrics will say nothing"
            yield Finding(COHORT, "warning", "split-no-tumor", message)
