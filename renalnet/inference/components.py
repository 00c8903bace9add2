"""The last step of inference: only the largest connected component is kept (Yang et al., ICPR 2018, II.B)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from renalnet.config import ComponentsConfig
from renalnet.inference.post_processing import Evidence
from renalnet.types import BACKGROUND, KIDNEY, TUMOR, LabelArray, MaskArray, Triple

CONNECTIVITY = 18
"""Voxels that share a face or an edge are connected."""
_MM3_PER_ML = 1000.0


def keep_largest(labels: LabelArray, spacing_mm: Triple, config: ComponentsConfig) -> LabelArray:
    """`labels` (z, y, x) with all but the largest 18-connected component emptied, and small tumors made kidney.

    Kidney and tumor count as one object, so a tumor that touches its kidney stays. Of components of the same
    size the one whose first voxel comes first in (z, y, x) order stays. An empty mask comes back empty.

    Args:
        labels: 0 background, 1 kidney, 2 tumor; left as they are.
        spacing_mm: of the voxels (z, y, x).
        config: volumes below which a component, or a piece of tumor, does not count.
    """
    kept = labels.copy()
    box = _box(labels)
    if not config.enabled or box is None:
        return kept
    ml = float(np.prod(spacing_mm)) / _MM3_PER_ML
    inside = kept[box]
    components, sizes = pieces_of(inside != BACKGROUND)
    largest = _largest(components, sizes)
    inside[(components != largest) | (sizes[largest] * ml < config.min_volume_ml)] = BACKGROUND
    if config.min_tumor_ml:
        pieces, tumor_sizes = pieces_of(inside == TUMOR)
        too_small = tumor_sizes * ml < config.min_tumor_ml
        too_small[0] = False
        inside[too_small[pieces]] = KIDNEY
    return kept


def apply(labels: LabelArray, evidence: Evidence, config: ComponentsConfig) -> LabelArray:
    """`keep_largest` as an operation of post-processing."""
    return keep_largest(labels, evidence.spacing_mm, config)


def _box(labels: LabelArray) -> tuple[slice, ...] | None:
    """The smallest box around kidney and tumor; none of an empty mask."""
    spans = []
    for axis in range(labels.ndim):
        found = np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(found):
            return None
        spans.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(spans)


def pieces_of(mask: MaskArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The 18-connected components of a boolean mask (z, y, x) by number from 1, and voxels by number; 0 is the rest."""
    import cc3d

    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=CONNECTIVITY, binary_image=True)
    return components, np.bincount(components.ravel())


def _largest(components: NDArray[Any], sizes: NDArray[np.int64]) -> int:
    """The number of the largest; of several that which is met first, since the library promises no order."""
    ties = 1 + np.flatnonzero(sizes[1:] == sizes[1:].max())
    if len(ties) == 1:
        return int(ties[0])
    flat = components.ravel()
    return int(flat[np.isin(flat, ties).argmax()])
