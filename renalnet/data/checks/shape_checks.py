"""Checks of the orientation and the spacing of a whole scan, by what the scan and its label map show."""

from collections.abc import Iterator
from typing import Final

from renalnet.data.cases.findings import Code, Level
from renalnet.data.checks.facts import CaseFacts

CUT_SHARE: Final = 0.1
"""Share of body in both faces of an axis from which the scan cuts the body there."""
OPEN_SHARE: Final = 0.05
"""Share of body in the faces along z below which the scan ends in air there."""
CUT_RATIO: Final = 4.0
"""Smallest ratio of the two."""
MIN_LUNG_SHARE: Final = 0.3
"""Share of lung in the lowest slices from which it counts as lung.

Measured: 0.7 and more at the end with lung; up to 0.17 at the other one in real scans, from bowel.
"""
LUNG_RATIO: Final = 5.0
"""Ratio of the shares of lung at the feet and at the head from which a scan is upside down."""
PLAUSIBLE_ELONGATION: Final = (0.8, 2.4)
"""Measured, with lesions: 0.86 to 2.35 for the 249 kidneys of KiTS19 and KiTS23 that are ROIs (median 1.58, 98 % up to
2.11), 0.99 to 2.02 for 12 kidneys in whole scans, 1.2 to 1.8 for painted ones."""
CERTAIN_ELONGATION: Final = (0.55, 3.0)
"""Range outside of which a warning becomes an error where every labelled kidney is outside."""
_EQUAL_SPACINGS: Final = 1.01
_AXES: Final = {"x": "from right to left", "y": "from front to back"}


def check_axes(facts: CaseFacts) -> Iterator[tuple[Level, Code, str]]:
    """Yield an error for a whole scan whose slices lie along another axis than z, or which is upside down."""
    if facts.is_cut or facts.tissue_z is None:
        return
    shares = {"x": facts.tissue_x or 0.0, "y": facts.tissue_y or 0.0}
    axis = max(shares, key=lambda name: shares[name])
    if shares[axis] >= CUT_SHARE and facts.tissue_z <= min(OPEN_SHARE, shares[axis] / CUT_RATIO):
        rule = f"the body is cut at both ends of the axis {_AXES[axis]} and ends in air towards head and feet"
        remedy = "the slices seem to lie along that axis; correct the orientation in the header"
        yield "error", "wrong-axes", f"{rule}: {remedy}"
    feet = facts.lung_feet or 0.0
    if feet >= MIN_LUNG_SHARE and feet > LUNG_RATIO * (facts.lung_head or 0.0):
        rule = f"{feet:.0%} of the lowest slices is lung, and {facts.lung_head or 0.0:.0%} of the highest ones"
        yield "error", "wrong-axes", f"{rule}: the scan seems to be upside down; correct the orientation in the header"


def check_elongation(facts: CaseFacts) -> Iterator[tuple[Level, Code, str]]:
    """Yield a finding where the labelled kidneys are too long or too short for their width, in a whole scan."""
    found = [value for value in (facts.elongation_left, facts.elongation_right) if value is not None]
    # Of a kidney that the scan cuts, only a part is long.
    if facts.is_cut or not found or {"feet", "head"} & set(facts.label_faces.split()):
        return
    low, high = PLAUSIBLE_ELONGATION
    if not (max(found) < low or min(found) > high):
        return
    certain = max(found) < CERTAIN_ELONGATION[0] or min(found) > CERTAIN_ELONGATION[1]
    shape, cause = ("long", "too far apart") if min(found) > high else ("short", "too close together")
    sizes = " and ".join(f"{value:.2g}" for value in found)
    problem = f"the labelled kidneys are too {shape} for their width (ratio {sizes}, not {low:g} to {high:g})"
    remedy = f"compare the spacing of {facts.spacing_z_mm:g} mm along z with the original scan"
    level: Level = "error" if certain else "warning"
    yield level, "wrong-spacing", f"{problem}: the slices seem to be {cause}; {remedy}"


def slice_axis(facts: CaseFacts) -> str | None:
    """Return the axis along which the slices seem to lie by the spacing, or None where it is z or unknown.

    The pixels of a CT are square, so the two equal spacings are those in-plane.
    """
    z, y, x = facts.spacing_mm
    if _differ(y, x) and _differ(z, x) and not _differ(z, y):
        return _AXES["x"]
    return _AXES["y"] if _differ(y, x) and _differ(z, y) and not _differ(z, x) else None


def _differ(one: float, other: float) -> bool:
    return max(one, other) > _EQUAL_SPACINGS * min(one, other)
