"""Labels of an ROI on the grid of its scan.

The grid of a scan is often finer than that of the ROI. The nearest label would draw the steps of the ROI's voxels into
the mask. Here the probabilities are interpolated, and each voxel of the scan takes the label that is most probable
there.
"""

from typing import Final

import numpy as np

from renalnet.data.images.grid import Grid, Volume
from renalnet.data.images.volume import resample
from renalnet.types import FloatArray, LabelArray

_LEAD: Final = 1e-3
"""Probability that is added to the final label, so that rounding changes no voxel that both grids share."""


def labels_on_scan(labels: LabelArray, probability: FloatArray, roi: Grid, scan: Grid) -> LabelArray:
    """Return labels on the grid of a scan, uint8 in its order of axes, with background outside the ROI.

    Where the ROI's voxels are voxels of the scan, they keep their labels.

    Args:
        labels: final labels of the ROI (z, y, x).
        probability: class probabilities (C, z, y, x) from which the labels were made. A voxel whose final label is not
            the most probable one, because post-processing has changed it, counts as certain.
        roi: grid of the ROI, of identity direction.
        scan: grid of the scan, of any direction.
    """
    on_scan = np.zeros(scan.shape, np.uint8)
    region = scan.region_of(roi)
    part = scan.part(region)
    if 0 in part.shape:
        return on_scan
    is_kept = probability.argmax(axis=0) == labels
    highest = np.full(part.shape, -np.inf, np.float32)
    best = np.zeros(part.shape, np.uint8)
    # One class at a time: on the grid of a fine scan, all of them would take gigabytes.
    for value, share in enumerate(probability):
        is_final = (labels == value).astype(np.float32)
        own = np.where(is_kept, share + _LEAD * is_final, is_final).astype(np.float32)
        # Outside the ROI there is background.
        found = resample(Volume(own, roi), part, is_label=False, fill=float(value == 0)).array
        best[found > highest] = value
        np.maximum(highest, found, out=highest)
    on_scan[region] = best
    return on_scan
