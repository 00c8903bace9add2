"""A planning sheet as people read it, on the terminal and in the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from renalnet.planning.sheet import Measures

STATEMENT: Final = "Research software, not a medical device: no measure here may guide the care of a patient."
_NONE: Final = "–"


@dataclass(frozen=True)
class Line:
    """A measure of the sheet."""

    name: str
    """In `measures_of`."""
    title: str
    unit: str = ""
    digits: int = 1
    factor: float = 1.0
    """From the measure's own unit to the one that is shown."""
    definition: str = ""


ROWS: Final = (
    Line("kidney_ml", "Kidney without tumor", "ml", 0),
    Line("kidney_length_mm", "Kidney length", "mm", 0, definition="largest diameter of kidney and tumor together"),
    Line("tumor_ml", "Tumor", "ml", definition="all pieces"),
    Line("num_tumors", "Pieces of tumor", "", 0, definition="the largest is measured below"),
    Line("diameter_3d_mm", "Largest diameter, 3D", "mm", 0),
    Line("diameter_axial_mm", "Largest diameter, axial", "mm", 0, definition="within one axial slice"),
    Line(
        "exophytic_share",
        "Exophytic",
        "%",
        0,
        100.0,
        "share of the tumor outside the kidney's outline, continued smoothly beneath it",
    ),
    Line(
        "contact_cm2",
        "Contact with the kidney",
        "cm²",
        definition="area (Leslie et al., 2015), from the surface's normals",
    ),
    Line("tumor_surface_cm2", "Tumor surface", "cm²", definition="area, from the surface's normals"),
    Line(
        "beyond_upper_share", "Above the upper polar line", "%", 0, 100.0, "end of the middle third of the longest axis"
    ),
    Line("beyond_lower_share", "Below the lower polar line", "%", 0, 100.0, "likewise"),
    Line("to_upper_line_mm", "To the upper polar line", "mm", 0, definition="0 where the tumor crosses it"),
    Line("to_lower_line_mm", "To the lower polar line", "mm", 0, definition="0 where the tumor crosses it"),
    Line("face", "Face of the kidney", definition="by 5 mm and more before or behind the kidney's middle"),
    Line(
        "c_index", "C-index", definition="distance of the middles over the tumor's radius (after Simmons et al., 2010)"
    ),
    Line("remaining_ml", "Parenchyma beyond the margin", "ml", 0, definition="kidney farther from the tumor than that"),
    Line("remaining_share", "Parenchyma beyond the margin", "%", 0, 100.0),
    Line("renal_r", "R.E.N.A.L.: R, points", "", 0, definition="diameter (Kutikov and Uzzo, 2009)"),
    Line("renal_e", "R.E.N.A.L.: E, points", "", 0, definition="exophytic share; up to 2 % counts as none"),
    Line("renal_n", "R.E.N.A.L.: N", definition="nearness to the collecting system, which has no label"),
    Line(
        "renal_l",
        "R.E.N.A.L.: L, points",
        "",
        0,
        definition="by the polar lines above, which stand for those of the hilum",
    ),
)
"""In the order of the sheet."""


def in_words(line: Line, measures: Measures, spread: Mapping[str, tuple[float, float]]) -> str:
    """A measure of `measures_of` with its unit, and the least and largest over other masks where there are some."""
    if line.name == "renal_n":
        return "not computed"
    value = measures[line.name]
    if value is None or isinstance(value, str):
        return value or _NONE
    low, high = (f"{bound * line.factor:.{line.digits}f}" for bound in spread.get(line.name, (value, value)))
    shown = f"{value * line.factor:.{line.digits}f} {line.unit}".strip()
    return f"{shown} ({low} to {high})" if line.name in spread and low != high else shown
