"""The measures of a planning sheet as one row, and the lines that show them.

A field of `SheetMeasures` is a column of `plan.parquet` in a study and of the CSV and JSON of `renalnet plan`. To add a
measure, compute it in `sheet`, declare one field here, with `default=None` so that files written before can still be
read, and add a `Line` where people are to see it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Literal

from renalnet.config.label_columns import by_label, flat
from renalnet.planning.scores import Span, nearness_points, padua_sum, renal_sum
from renalnet.planning.sheet import Sheet
from renalnet.planning.tumor import Tumor


def _of_sheet(compute: Callable[[Sheet], Any], default: Any = MISSING) -> Any:
    return field(default=default, metadata={"compute": compute})


def _of_tumor(compute: Callable[[Tumor], Any]) -> Any:
    """Return a field of the largest piece of tumor; it is None where there is no tumor."""
    return _of_sheet(lambda sheet: compute(sheet.tumor) if sheet.tumor else None, default=None)


def _of_score(score: Callable[[Tumor, float | None], Span], end: Literal["low", "high"]) -> Any:
    """Return a field of the least or the largest sum of a score; it is None where there is no tumor."""
    return _of_sheet(
        lambda sheet: getattr(score(sheet.tumor, sheet.nearness_mm), end) if sheet.tumor else None, default=None
    )


# Keywords only, so that a measure with a default may stand before one without.
@dataclass(frozen=True, kw_only=True)
class SheetMeasures:
    """The measures of one kidney and its largest tumor; those of a tumor are None where there is no tumor."""

    side: str = _of_sheet(lambda sheet: sheet.side)
    """`right` or `left` where the mask holds two kidneys, else `kidney`."""
    kidney_ml: float = _of_sheet(lambda sheet: sheet.kidney_ml)
    """Volume of the kidney without lesions."""
    kidney_length_mm: float = _of_sheet(lambda sheet: sheet.kidney_length_mm)
    """Largest diameter of the kidney and its lesions together."""
    tumor_ml: float = _of_sheet(lambda sheet: sheet.tumor_ml)
    """Volume of all pieces of tumor."""
    num_tumors: int = _of_sheet(lambda sheet: sheet.num_tumors)
    """Number of pieces of tumor; the largest one is measured below."""
    other_ml: dict[str, float] = by_label("{}_ml")
    """Volume of each lesion that is not the tumor, such as `cyst_ml`."""
    num_others: dict[str, int] = by_label("num_{}s")
    """Number of its pieces, such as `num_cysts`."""
    remaining_ml: float = _of_sheet(lambda sheet: sheet.remaining_ml)
    """Volume of the kidney farther from the tumor than the margin."""
    remaining_share: float | None = _of_sheet(lambda sheet: sheet.remaining_share, default=None)
    """The same as a share of the kidney, 0-1; None where there is no kidney."""
    margin_mm: float = _of_sheet(lambda sheet: sheet.margin_mm)
    """Width of the margin."""
    diameter_3d_mm: float | None = _of_tumor(lambda tumor: tumor.diameter_3d_mm)
    """Largest diameter."""
    diameter_axial_mm: float | None = _of_tumor(lambda tumor: tumor.diameter_axial_mm)
    """Largest diameter within one axial slice."""
    tumor_surface_cm2: float | None = _of_tumor(lambda tumor: tumor.surface_cm2)
    """Area of the tumor's surface."""
    contact_cm2: float | None = _of_tumor(lambda tumor: tumor.contact_cm2)
    """Area in which the tumor touches the kidney."""
    exophytic_share: float | None = _of_tumor(lambda tumor: tumor.exophytic_share)
    """Share of the tumor outside the kidney's continued outline, 0-1."""
    beyond_upper_share: float | None = _of_tumor(lambda tumor: tumor.polar.beyond_upper)
    """Share of the tumor above the upper polar line, 0-1."""
    beyond_lower_share: float | None = _of_tumor(lambda tumor: tumor.polar.beyond_lower)
    """Share of the tumor below the lower polar line, 0-1."""
    to_upper_line_mm: float | None = _of_tumor(lambda tumor: tumor.polar.to_upper_mm)
    """Distance to the upper polar line; 0 where the tumor crosses it."""
    to_lower_line_mm: float | None = _of_tumor(lambda tumor: tumor.polar.to_lower_mm)
    """Distance to the lower polar line; 0 where the tumor crosses it."""
    behind_mm: float | None = _of_tumor(lambda tumor: tumor.behind_mm)
    """Distance of the tumor's centre behind the kidney's; negative in front of it."""
    face: str | None = _of_tumor(lambda tumor: tumor.face)
    """`anterior`, `posterior` or `neither`: A of R.E.N.A.L."""
    c_index: float | None = _of_tumor(lambda tumor: tumor.c_index)
    """Distance of the centres over the tumor's radius."""
    renal_r: int | None = _of_tumor(lambda tumor: tumor.radius_points)
    """R of R.E.N.A.L., 1 to 3."""
    renal_e: int | None = _of_tumor(lambda tumor: tumor.exophytic_points)
    """E of R.E.N.A.L., 1 to 3."""
    renal_l: int | None = _of_tumor(lambda tumor: tumor.polar.points)
    """L of R.E.N.A.L., 1 to 3, by the polar lines."""
    resected_ml: float | None = _of_sheet(lambda sheet: sheet.resected_ml, default=None)
    """Volume of the kidney within the margin, which is resected with the tumor."""
    medial_mm: float | None = _of_tumor(lambda tumor: tumor.medial_mm)
    """Distance of the tumor's centre from the kidney's towards the midline; None where the side is not known."""
    nearness_mm: float | None = _of_sheet(lambda sheet: sheet.nearness_mm, default=None)
    """Distance of the tumor from the collecting system or sinus, as given by hand."""
    renal_n: int | None = _of_sheet(lambda sheet: nearness_points(sheet.nearness_mm), default=None)
    """N of R.E.N.A.L., 1 to 3; None where the distance was not given."""
    renal_sum_low: int | None = _of_score(renal_sum, "low")
    """Least sum of R.E.N.A.L., 4 to 12."""
    renal_sum_high: int | None = _of_score(renal_sum, "high")
    """Largest sum of R.E.N.A.L.; it is the least one where N was given."""
    padua_sum_low: int | None = _of_score(padua_sum, "low")
    """Least sum of PADUA, 6 to 14."""
    padua_sum_high: int | None = _of_score(padua_sum, "high")
    """Largest sum of PADUA."""


def measures_of(sheet: Sheet) -> SheetMeasures:
    """Return the measures of a sheet as one row."""
    declared = {each.name: each.metadata["compute"] for each in fields(SheetMeasures) if "compute" in each.metadata}
    values = {name: compute(sheet) for name, compute in declared.items()}
    return SheetMeasures(**values, other_ml=dict(sheet.other_ml), num_others=dict(sheet.num_others))


def spread_of(sheets: Sequence[Sheet]) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest value of each measure over masks of the same kidney.

    Args:
        sheets: sheets of one or more masks, such as those of an ensemble's members.

    Returns:
        Bounds by the measure's name; a measure without a number in any sheet is left out.
    """
    rows = [flat(measures_of(sheet)) for sheet in sheets]
    numbers = {name: [float(value) for row in rows if isinstance(value := row[name], int | float)] for name in rows[0]}
    return {name: (min(values), max(values)) for name, values in numbers.items() if values}


@dataclass(frozen=True)
class Line:
    """How a measure is shown."""

    name: str
    """Column of `SheetMeasures`."""
    title: str
    """Text at the start of the line."""
    unit: str = ""
    """Unit of the value that is shown."""
    digits: int = 1
    """Decimal places."""
    factor: float = 1.0
    """Factor from the measure's own unit to the one that is shown."""
    definition: str = ""
    """What the value means, for the report."""
    upto: str = ""
    """Column with the upper end of a range, whose lower end is `name`; empty for a single value."""


_LINES: Final = (
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
    Line(
        "beyond_lower_share", "Below the lower polar line", "%", 0, 100.0, "end of the middle third of the longest axis"
    ),
    Line("to_upper_line_mm", "To the upper polar line", "mm", 0, definition="0 where the tumor crosses it"),
    Line("to_lower_line_mm", "To the lower polar line", "mm", 0, definition="0 where the tumor crosses it"),
    Line("face", "Face of the kidney", definition="5 mm or more in front of or behind the kidney's centre"),
    Line(
        "c_index", "C-index", definition="distance of the centres over the tumor's radius (after Simmons et al., 2010)"
    ),
    Line(
        "remaining_ml",
        "Parenchyma beyond the margin",
        "ml",
        0,
        definition="kidney farther from the tumor than the margin",
    ),
    Line("remaining_share", "Parenchyma beyond the margin", "%", 0, 100.0),
    Line("resected_ml", "Parenchyma within the margin", "ml", definition="kidney that is resected with the tumor"),
    Line("renal_r", "R.E.N.A.L.: R, points", "", 0, definition="diameter (Kutikov and Uzzo, 2009)"),
    Line("renal_e", "R.E.N.A.L.: E, points", "", 0, definition="exophytic share; up to 2 % counts as none"),
    Line(
        "renal_n",
        "R.E.N.A.L.: N, points",
        "",
        0,
        definition="nearness to the collecting system, which has no label: given by hand",
    ),
    Line(
        "renal_l",
        "R.E.N.A.L.: L, points",
        "",
        0,
        definition="by the polar lines above, which stand for those of the hilum, and the middle between them",
    ),
    Line(
        "renal_sum_low",
        "R.E.N.A.L.: sum",
        "",
        0,
        definition="4 to 12; a range where N is not given",
        upto="renal_sum_high",
    ),
    Line(
        "padua_sum_low",
        "PADUA: sum",
        "",
        0,
        definition="6 to 14 (Ficarra et al., 2009); a range where sinus, collecting system or side are not known",
        upto="padua_sum_high",
    ),
)


_WITH_OTHERS: Final = {
    "kidney_ml": Line("kidney_ml", "Kidney without lesions", "ml", 0),
    "kidney_length_mm": Line(
        "kidney_length_mm",
        "Kidney length",
        "mm",
        0,
        definition="largest diameter of the kidney and its lesions together",
    ),
}
"""The lines that read differently where there are other lesions than the tumor, by name."""


def lines_of(other_lesions: Iterable[str]) -> tuple[Line, ...]:
    """Return the lines of a sheet in their order.

    Args:
        other_lesions: names of the lesions that are not the tumor (`SheetMeasures.other_ml`).
    """
    others = [line for name in other_lesions for line in _lesion_lines(name)]
    lines = [_WITH_OTHERS.get(line.name, line) if others else line for line in _LINES]
    place = 1 + [line.name for line in lines].index("num_tumors")
    return (*lines[:place], *others, *lines[place:])


def _lesion_lines(name: str) -> tuple[Line, Line]:
    title = name.replace("_", " ")
    return (
        Line(f"{name}_ml", title.capitalize(), "ml", definition="all pieces"),
        Line(f"num_{name}s", f"Pieces of {title}", "", 0),
    )
