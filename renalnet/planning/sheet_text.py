"""A planning sheet as text, for the terminal and the report."""

from collections.abc import Mapping, Sequence
from typing import Final

from renalnet.config.label_columns import flat
from renalnet.planning.function import KidneyFunction
from renalnet.planning.lesions import Lesion
from renalnet.planning.rows import Line, SheetMeasures

STATEMENT: Final = "Research software, not a medical device: no measure here may guide the care of a patient."
SOURCE_OF_FORECAST: Final = (
    "GFR: function is taken as proportional to parenchyma. A range is from no gain of the other kidney to the largest "
    "published one: 24 % after a radical nephrectomy (293 patients, UroToday 158880), 2.3 % after a partial one "
    "(Takagi et al., J Urol 2014). The sources give no error for a single patient."
)
_NONE: Final = "–"


def value_text(line: Line, measures: SheetMeasures, spread: Mapping[str, tuple[float, float]]) -> str:
    """Return the value of a line with its unit and, where masks differ in it, its lowest and highest value.

    Args:
        line: the measure to show.
        measures: the sheet's row.
        spread: lowest and highest value of each measure over other masks of the kidney; may be empty.
    """
    columns = flat(measures)
    value = columns[line.name]
    if line.name == "renal_n" and value is None and measures.renal_r is not None:
        return "not given"
    if value is None or isinstance(value, str):
        return value or _NONE
    if line.upto and columns[line.upto] != value:
        return f"{value} to {columns[line.upto]}"
    low, high = (f"{bound * line.factor:.{line.digits}f}" for bound in spread.get(line.name, (value, value)))
    shown = f"{value * line.factor:.{line.digits}f} {line.unit}".strip()
    # Compared as text, because bounds that look the same tell the reader nothing.
    return f"{shown} ({low} to {high})" if line.name in spread and low != high else shown


def function_texts(functions: Sequence[KidneyFunction | None]) -> dict[str, list[str]]:
    """Return the renal function of the kidneys as text by the title of its line; empty where it is not known."""
    known = [function for function in functions if function is not None]
    if not known:
        return {}
    lines = {"Share of the renal function": [f"{100 * each.split_share:.0f} %" for each in known]}
    if known[0].gfr_ml_min is None:
        return lines
    return lines | {
        "GFR of this kidney": [f"{each.gfr_ml_min:.0f}" for each in known],
        "GFR after partial nephrectomy": [_range(each.gfr_partial_low, each.gfr_partial_high) for each in known],
        "GFR after radical nephrectomy": [_range(each.gfr_radical_low, each.gfr_radical_high) for each in known],
    }


def lesion_texts(lesions: Sequence[Sequence[Lesion]]) -> dict[str, list[str]]:
    """Return the lesions of each kidney as text by the title of their line, such as `Tumor 1`."""
    by_title = [{f"{each.label.replace('_', ' ').capitalize()} {each.number}": each for each in own} for own in lesions]
    titles = dict.fromkeys(title for own in by_title for title in own)
    return {title: [_lesion(own.get(title)) for own in by_title] for title in titles}


def _lesion(lesion: Lesion | None) -> str:
    return f"{lesion.volume_ml:.1f} ml, {lesion.diameter_3d_mm:.0f} mm" if lesion else _NONE


def _range(low: float | None, high: float | None) -> str:
    return _NONE if low is None or high is None else f"{low:.0f} to {high:.0f}"
