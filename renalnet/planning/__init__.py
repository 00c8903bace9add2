"""The planning sheet: what a mask of kidney and tumor tells a surgeon who plans a partial nephrectomy."""

from renalnet.planning.kidneys import Kidney, find_kidneys
from renalnet.planning.sheet import MARGIN_MM, Polar, Sheet, Tumor, measure_kidney, measures_of, spread_of
from renalnet.planning.sheet_text import ROWS, STATEMENT, Line, in_words

__all__ = [
    "MARGIN_MM",
    "ROWS",
    "STATEMENT",
    "Kidney",
    "Line",
    "Polar",
    "Sheet",
    "Tumor",
    "find_kidneys",
    "in_words",
    "measure_kidney",
    "measures_of",
    "spread_of",
]
