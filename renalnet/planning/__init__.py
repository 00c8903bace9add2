"""Planning sheets: measures of a mask of kidney and tumor for the planning of a partial nephrectomy."""

from renalnet.planning.kidneys import Kidney, find_kidneys
from renalnet.planning.rows import Line, SheetMeasures, lines_of, measures_of, spread_of
from renalnet.planning.sheet import MARGIN_MM, Sheet, measure_kidney
from renalnet.planning.sheet_text import STATEMENT, value_text
from renalnet.planning.tumor import Polar, Tumor

__all__ = [
    "MARGIN_MM",
    "STATEMENT",
    "Kidney",
    "Line",
    "Polar",
    "Sheet",
    "SheetMeasures",
    "Tumor",
    "find_kidneys",
    "lines_of",
    "measure_kidney",
    "measures_of",
    "spread_of",
    "value_text",
]
