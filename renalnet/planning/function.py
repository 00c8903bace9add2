"""Split renal function by parenchymal volume, and the GFR to expect after a nephrectomy.

The function of each kidney is taken as proportional to its parenchyma, as a network's masks of preoperative CT were
used in 293 patients by the authors of "A Fully Automated Artificial Intelligence-Based Approach to Predict Renal
Function after Radical or Partial Nephrectomy" (their summary on UroToday, article 158880). They forecast the GFR 3 to
12 months after a radical nephrectomy as 1.24 times the function of the other kidney. After a partial nephrectomy, they
take 89 % of the GFR before surgery, whatever is resected. Their forecasts correlate with the measured GFR by 0.75.

The other changes after surgery are the medians of Takagi et al. (Journal of Urology, 2014, PubMed 24931802) over 113
partial and 59 radical nephrectomies, 4 to 12 months after surgery:

- the other kidney gained 21.1 % after a radical and 2.3 % after a partial nephrectomy;
- the operated kidney lost 18 % of its parenchyma and 24.4 % of its function after a partial nephrectomy, so a preserved
  share of parenchyma kept 0.756 / 0.82 = 0.922 of its function.

Neither source gives the error of a forecast for one patient. Each forecast is therefore a range: the low end without
the gain of the other kidney, the high end with the largest published one and, after a partial nephrectomy, without the
loss of preserved parenchyma. The median global loss of Takagi et al. was 9.6 % after a partial and 32.2 % after a
radical nephrectomy. Both lie in the ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.errors import InputError
from renalnet.planning.sheet import Sheet

GAIN_RADICAL: Final = 1.24
"""Function of the other kidney after a radical nephrectomy, as a share of that before: the larger published value."""
GAIN_PARTIAL: Final = 1.023
"""Function of the other kidney after a partial nephrectomy, likewise."""
KEPT_BY_PRESERVED: Final = (1 - 0.244) / (1 - 0.18)
"""Function of the preserved parenchyma after a partial nephrectomy, likewise."""
_MOST_GFR: Final = 250.0


@dataclass(frozen=True)
class KidneyFunction:
    """The function of one of two kidneys, and the GFR to expect after surgery on it.

    GFR is in the unit in which it was given, such as ml/min/1.73 m². It is None where none was given.
    """

    split_share: float
    """Share of both kidneys' parenchyma, 0 to 1."""
    gfr_ml_min: float | None = None
    """GFR of this kidney before surgery."""
    gfr_radical_low: float | None = None
    """GFR of the patient after a radical nephrectomy of this kidney, without a gain of the other one."""
    gfr_radical_high: float | None = None
    """The same with the largest published gain of the other one."""
    gfr_partial_low: float | None = None
    """GFR of the patient after a partial nephrectomy at the margin; None for a kidney without a tumor."""
    gfr_partial_high: float | None = None
    """The same with the median gain of the other kidney, and all function of the preserved parenchyma."""


def require_gfr(gfr: float) -> None:
    """Raise InputError for a GFR that no patient has."""
    if not 0 < gfr <= _MOST_GFR:
        raise InputError(f"GFR {gfr}: must be above 0 and at most {_MOST_GFR:g} ml/min/1.73 m²")


def functions_of(sheets: Sequence[Sheet], gfr: float | None = None) -> list[KidneyFunction | None]:
    """Return the function of each kidney of a scan; None for each where it does not show two kidneys.

    Args:
        sheets: the sheets of one mask.
        gfr: GFR of the patient before surgery; None for the split alone.
    """
    total_ml = sum(sheet.kidney_ml for sheet in sheets)
    if len(sheets) != 2 or not total_ml:
        return [None for _ in sheets]
    return [_function(sheet, sheet.kidney_ml / total_ml, gfr) for sheet in sheets]


def _function(sheet: Sheet, share: float, gfr: float | None) -> KidneyFunction:
    if gfr is None:
        return KidneyFunction(share)
    other = gfr * (1 - share)
    preserved = gfr * share * (sheet.remaining_share or 0.0)
    has_tumor = sheet.tumor is not None
    return KidneyFunction(
        share,
        gfr_ml_min=gfr * share,
        gfr_radical_low=other,
        gfr_radical_high=other * GAIN_RADICAL,
        gfr_partial_low=other + preserved * KEPT_BY_PRESERVED if has_tumor else None,
        gfr_partial_high=other * GAIN_PARTIAL + preserved if has_tumor else None,
    )
