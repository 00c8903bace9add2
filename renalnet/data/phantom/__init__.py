"""Seeded synthetic contrast CTs with known truth: whole abdomens, or images painted around given label maps."""

from renalnet.data.phantom.cohort import COHORT_FILE, SYNTHETIC, CohortCase, CohortSummary, Measure, write_cohort
from renalnet.data.phantom.imaging.tissue import TumorKind
from renalnet.data.phantom.imaging.tumor import TUMOR_SHARES
from renalnet.data.phantom.other_parts import OtherPart, paint_other_part
from renalnet.data.phantom.painter import CaseTruth, PaintedCase, TumorTruth, paint_abdomen, paint_labels

__all__ = [
    "COHORT_FILE",
    "SYNTHETIC",
    "TUMOR_SHARES",
    "CaseTruth",
    "CohortCase",
    "CohortSummary",
    "Measure",
    "OtherPart",
    "PaintedCase",
    "TumorKind",
    "TumorTruth",
    "paint_abdomen",
    "paint_labels",
    "paint_other_part",
    "write_cohort",
]
