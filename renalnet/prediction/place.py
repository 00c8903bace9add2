"""The place of a kidney as the localiser sees it, as a prior of the vote on its ROI.

The fine network sees an ROI only, and may take muscle, spleen or bowel beside a kidney for one, most of all in scans
that differ from its training data. The coarse network sees the whole scan, but only voxels of 6 mm. Its outline
therefore decides nothing near the border of a kidney: it excludes what is far outside, and adds odds deep inside.
"""

from typing import Final

import numpy as np
from scipy import ndimage

from renalnet.config import LabelSet
from renalnet.data.images.resampling import regrid_image
from renalnet.data.images.volume import Grid, Volume
from renalnet.inference.stitching import Stitched
from renalnet.types import FloatArray

# A voxel of the coarse grid has 6 mm, and tumors reach further than the outline shows.
_LOG_ODDS: Final = ((-9.0, -3.0, 6.0, 15.0), (2.0, 0.0, 0.0, -12.0))
"""Distances from the border in mm, negative inside, and the logarithm of the odds that are added there."""


def prior_of(place: Volume, grid: Grid) -> FloatArray:
    """Return the log-odds of a kidney or lesion by its place, float32 (z, y, x) on `grid`.

    Args:
        place: mask (uint8) of the kidney with its lesions on the coarse grid; not empty.
        grid: grid of the ROI.
    """
    inside = place.array > 0
    spacing_mm = place.grid.spacing_mm
    outer_mm = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    # The border is halfway between the centres of an inner and an outer voxel.
    half_mm = min(spacing_mm) / 2
    inner_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    distance_mm = np.where(inside, half_mm - inner_mm, outer_mm - half_mm).astype(np.float32)
    far_mm = float(_LOG_ODDS[0][-1])
    on_grid = regrid_image(Volume(distance_mm, place.grid), grid, fill=far_mm).array
    return np.asarray(np.interp(on_grid, *_LOG_ODDS), dtype=np.float32)


def with_prior(vote: Stitched, prior: FloatArray, labels: LabelSet) -> Stitched:
    """Return the vote with the odds of its kidney and lesions changed.

    Args:
        vote: the vote on an ROI (z, y, x).
        prior: log-odds (z, y, x) from `prior_of`.
        labels: meaning of the labels. Other structures, such as vessels, keep their odds to background.
    """
    weighted = vote.probability.copy()
    body = [label.value for label in labels.body]
    weighted[body] *= np.exp(prior)
    weighted /= weighted.sum(axis=0)
    return Stitched(weighted.argmax(axis=0).astype(np.uint8), weighted)
