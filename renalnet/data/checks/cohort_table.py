"""Summary of a cohort as rows of text, each number beside the paper's (II.B, III.A)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config.paper import PAPER_KIDNEY_ML, PAPER_PIXEL_MM, PAPER_SHARES, PAPER_TUMOR_ML
from renalnet.data.checks.cohort_facts import CohortFacts, gather
from renalnet.data.checks.facts import CaseFacts
from renalnet.types import SPLITS, Split

PAPER_HU: Final = (100.0, 500.0)
"""Range of enhanced kidney and tumor."""
NONE: Final = "–"
"""Stands for a number that is not known."""


@dataclass(frozen=True)
class SummaryRow:
    """One quantity of a cohort, as text."""

    name: str
    cohort: str
    """Value in the cohort."""
    paper: str
    """Value in the paper."""
    remark: str = ""


def summarise_facts(facts: Iterable[CaseFacts], splits: Mapping[str, Split]) -> list[SummaryRow]:
    """Return the summary of a cohort.

    The kidney is the one in the ROI around the lesion, the tumor that of both sides. Class shares are those of the
    summed volumes of the ROIs.

    Args:
        facts: those of all cases; iterated once, so that they may come from a file.
        splits: the split of each case.
    """
    cohort = gather(facts, splits)
    return [*_count_rows(cohort), *_grid_rows(cohort), *_label_rows(cohort), *_intensity_rows(cohort)]


def _count_rows(cohort: CohortFacts) -> list[SummaryRow]:
    sizes = ", ".join(f"{split} {np.count_nonzero(cohort.in_split(split))}" for split in SPLITS)
    # Without the kidney an empty label map would count as a healthy patient.
    healthy = (cohort.column("roi_kidney_ml") > 0) & (cohort.column("tumor_ml") == 0)
    by_split = ", ".join(f"{split} {np.count_nonzero(healthy & cohort.in_split(split))}" for split in SPLITS)
    num_cut = np.count_nonzero(cohort.column("is_cut"))
    return [
        SummaryRow("cases", str(len(cohort)), "140", f"{sizes}; paper: train 90, test 50"),
        SummaryRow("without tumor", str(np.count_nonzero(healthy)), "0", by_split if healthy.any() else ""),
        SummaryRow("ROIs already cut", str(num_cut), NONE, f"{len(cohort) - num_cut} whole scans"),
    ]


def _grid_rows(cohort: CohortFacts) -> list[SummaryRow]:
    spacing = cohort.column("spacing_mm")
    num_oblique = np.count_nonzero(cohort.column("oblique"))
    oblique = f"{num_oblique} oblique, resampled upright" if num_oblique else ""
    return [
        SummaryRow("slice spacing (mm)", _spread(spacing[:, 0], 2), NONE, oblique),
        # One axis is enough, because pixels of CTs are square; `case_checks` warns of others.
        SummaryRow("pixel spacing (mm)", _spread(spacing[:, 2], 2), _range(PAPER_PIXEL_MM)),
        SummaryRow("slices", _spread(cohort.column("num_slices"), 0), "about 200"),
    ]


def _label_rows(cohort: CohortFacts) -> list[SummaryRow]:
    kidney = cohort.column("roi_kidney_ml")
    tumor = cohort.column("tumor_ml")
    num_several = np.count_nonzero(cohort.column("num_tumors") > 1)
    several = f"{num_several} with several tumors" if num_several else ""
    rows = [
        SummaryRow("kidney (ml)", _volumes(kidney), _paper_volumes(PAPER_KIDNEY_ML), _outside(kidney, PAPER_KIDNEY_ML)),
        SummaryRow(
            "tumor (ml)",
            _volumes(tumor),
            _paper_volumes(PAPER_TUMOR_ML),
            "; ".join(filter(None, (_outside(tumor, PAPER_TUMOR_ML), several))),
        ),
    ]
    total = cohort.column("roi_ml").sum(dtype=float)
    # The tiny divisor only avoids a division by zero; without volume no share is shown.
    shares = {name: cohort.column(f"roi_{name}_ml").sum(dtype=float) / max(total, 1e-9) for name in ("kidney", "tumor")}
    shares["background"] = 1 - sum(shares.values())
    return rows + [
        # The percent sign is cut off, because the name of the row has it.
        SummaryRow(f"{name} (% of ROI)", f"{share:.2%}"[:-1] if total else NONE, f"{PAPER_SHARES[name]:.2%}"[:-1])
        for name, share in shares.items()
    ]


def _intensity_rows(cohort: CohortFacts) -> list[SummaryRow]:
    phase = cohort.column("phase")
    counts = {name: np.count_nonzero(phase == name) for name in ("enhanced", "unenhanced", "unknown")}
    rows = [
        SummaryRow(f"{name} (mean HU)", _spread(cohort.column(f"{name}_hu"), 0), _range(PAPER_HU))
        for name in ("kidney", "tumor")
    ]
    phases = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [*rows, SummaryRow("phase", phases or NONE, "arterial", "a guess from the kidney's mean")]


def _spread(values: NDArray[Any], digits: int) -> str:
    """Return the smallest, median and largest of the values that are not NaN."""
    known = values[~np.isnan(values)]
    if not known.size:
        return NONE
    return " · ".join(f"{value:.{digits}f}" for value in (known.min(), np.median(known), known.max()))


def _volumes(values_ml: NDArray[Any]) -> str:
    present = values_ml[values_ml > 0]
    return f"{_spread(present, 1)} (mean {present.mean():.1f})" if present.size else NONE


def _paper_volumes(volumes_ml: tuple[float, float, float]) -> str:
    low, mean, high = volumes_ml
    return f"{low} to {high} (mean {mean})"


def _range(values: tuple[float, float]) -> str:
    return f"{values[0]:g} to {values[1]:g}"


def _outside(values_ml: NDArray[Any], paper_ml: tuple[float, float, float]) -> str:
    low, _, high = paper_ml
    num_below = np.count_nonzero((values_ml > 0) & (values_ml < low))
    num_above = np.count_nonzero(values_ml > high)
    return f"{num_below} below the paper's, {num_above} above" if num_below or num_above else ""
