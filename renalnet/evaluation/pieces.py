"""The pieces of a mask: its 18-connected components (Yang et al., ICPR 2018, II.B)."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.types import MaskArray

CONNECTIVITY: Final = 18
"""Number of neighbours of a voxel: those that share a face or an edge with it."""


def pieces_of(mask: MaskArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Find the 18-connected components of a boolean mask (z, y, x).

    Returns:
        The number of each voxel's component, from 1, with 0 outside the mask; and the number of voxels of each.
    """
    # Imported here, because a training run does not need it.
    import cc3d

    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=CONNECTIVITY, binary_image=True)
    return components, np.bincount(components.ravel())
