"""A planning sheet as text, for the terminal and the report."""

from collections.abc import Mapping
from typing import Final

from renalnet.config.label_columns import flat
from renalnet.planning.rows import Line, SheetMeasures

STATEMENT: Final = "Research software, not a medical device: no measure here may guide the care of a patient."
_NONE: Final = "–"


def value_text(line: Line, measures: SheetMeasures, spread: Mapping[str, tuple[float, float]]) -> str:
    """Return the value of a line with its unit and, where masks differ in it, its lowest and highest value.

    Args:
        line: the measure to show.
        measures: the sheet's row.
        spread: lowest and highest value of each measure over other masks of the kidney; may be empty.
    """
    if line.name == "renal_n":
        return "not computed"
    value = flat(measures)[line.name]
    if value is None or isinstance(value, str):
        return value or _NONE
    low, high = (f"{bound * line.factor:.{line.digits}f}" for bound in spread.get(line.name, (value, value)))
    shown = f"{value * line.factor:.{line.digits}f} {line.unit}".strip()
    # Compared as text, because bounds that look the same tell the reader nothing.
    return f"{shown} ({low} to {high})" if line.name in spread and low != high else shown
