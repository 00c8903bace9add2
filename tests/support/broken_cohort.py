"""A cohort whose batches are not finite, so that every step of a run on it fails."""

import math
from dataclasses import replace

from renalnet.config import Normalisation
from renalnet.data.batches.cohort import Cohort


def without_numbers(cohort: Cohort) -> Cohort:
    """Return the cohort with a mean of NaN, which no file may state."""
    normalisation = Normalisation(-200, 500, 0.3)
    object.__setattr__(normalisation, "mean", math.nan)
    return replace(cohort, normalisation=normalisation)
