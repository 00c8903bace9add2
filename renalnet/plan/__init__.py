"""The planning sheet: what a mask of kidney and tumor tells a surgeon who plans a partial nephrectomy."""

from renalnet.plan.kidneys import Kidney, find_kidneys
from renalnet.plan.sheet import MARGIN_MM, Polar, Sheet, Tumor, measure_kidney, measures_of, spread_of

__all__ = [
    "MARGIN_MM",
    "STATEMENT",
    "Kidney",
    "Polar",
    "Sheet",
    "Tumor",
    "find_kidneys",
    "measure_kidney",
    "measures_of",
    "spread_of",
]

STATEMENT = "Research software, not a medical device: no measure here may guide the care of a patient."
