"""Seeded synthetic contrast CTs with known truth: whole abdomens, or images painted around given label maps."""

from renalnet.data.phantom.cohort import COHORT_FILE, SYNTHETIC, CohortCase, CohortSummary, Measure, write_cohort
from renalnet.data.phantom.head import paint_head
from renalnet.data.phantom.painter import CaseTruth, PaintedCase, TumorTruth, paint_abdomen, paint_labels
from renalnet.data.phantom.tumor import TUMOR_LOOKS, TumorKind

__all__ = [
    "COHORT_FILE",
    "SYNTHETIC",
    "TUMOR_LOOKS",
    "CaseTruth",
    "CohortCase",
    "CohortSummary",
    "Measure",
    "PaintedCase",
    "TumorKind",
    "TumorTruth",
    "paint_abdomen",
    "paint_head",
    "paint_labels",
    "write_cohort",
]
