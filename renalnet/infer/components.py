"""The last step of inference: only the largest connected component is kept (Yang et al., ICPR 2018, II.B)."""

import numpy as np

from renalnet.types import BACKGROUND, LabelArray

CONNECTIVITY = 18
"""Voxels that share a face or an edge are connected."""


def largest_component(labels: LabelArray) -> LabelArray:
    """`labels` (z, y, x) with all but the largest 18-connected component of kidney or tumor emptied.

    Kidney and tumor count as one object, so a tumor that touches its kidney stays. Of components of the same
    size the one whose first voxel comes first in (z, y, x) order stays. An empty mask comes back empty.
    """
    import cc3d

    foreground = np.ascontiguousarray(labels != BACKGROUND)
    components = cc3d.connected_components(foreground, connectivity=CONNECTIVITY, binary_image=True)
    sizes = np.bincount(components.ravel())
    if len(sizes) < 2:
        return labels.copy()
    sizes[0] = 0
    ties = np.flatnonzero(sizes == sizes.max())
    # The library promises numbers from 1 to N, but not in which order.
    keep = ties[0] if len(ties) == 1 else _first_met(components, ties)
    return np.where(components == keep, labels, np.uint8(BACKGROUND))


def _first_met(components: np.ndarray, numbers: np.ndarray) -> int:
    flat = components.ravel()
    return int(flat[np.isin(flat, numbers).argmax()])
