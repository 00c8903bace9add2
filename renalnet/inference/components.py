"""Connectivity: only the largest connected component of a mask is kept (Yang et al., ICPR 2018, II.B)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from renalnet.config import ComponentsConfig, LabelSet
from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.pieces import pieces_of
from renalnet.inference.post_processing import Evidence
from renalnet.types import BACKGROUND, LabelArray, MaskArray, Triple


def keep_largest(labels: LabelArray, spacing_mm: Triple, config: ComponentsConfig, label_set: LabelSet) -> LabelArray:
    """Return the labels with only the largest 18-connected component, and small pieces of tumor as kidney.

    The kidney and its lesions count as one object, so a tumor that touches its kidney is kept. Among components of the
    same size, the one whose first voxel is first in (z, y, x) order is kept. An empty mask stays empty. Other labels,
    such as vessels, are not changed.

    Args:
        labels: values of `label_set` (z, y, x); not changed.
        spacing_mm: voxel spacing (z, y, x).
        config: least volumes of a component and of a piece of tumor.
        label_set: meaning of the labels.
    """
    kept = labels.copy()
    box = _box(label_set.body_mask(labels))
    if not config.enabled or box is None:
        return kept
    ml = voxel_ml(spacing_mm)
    # Only the box is searched, because most of an ROI is background.
    # A view, so that changes of `inside` are changes of `kept`.
    inside = kept[box]
    body = label_set.body_mask(inside)
    components, sizes = pieces_of(body)
    largest = _largest(components, sizes)
    # Where the largest component is too small as well, everything becomes background.
    inside[body & ((components != largest) | (sizes[largest] * ml < config.min_volume_ml))] = BACKGROUND
    if config.min_tumor_ml:
        pieces, tumor_sizes = pieces_of(inside == label_set.tumor.value)
        too_small = tumor_sizes * ml < config.min_tumor_ml
        too_small[0] = False  # number 0 is everything outside the tumor
        inside[too_small[pieces]] = label_set.kidney.value
    return kept


def apply(labels: LabelArray, evidence: Evidence, config: ComponentsConfig) -> LabelArray:
    """`keep_largest` as an operation of post-processing."""
    return keep_largest(labels, evidence.spacing_mm, config, evidence.label_set)


def _box(mask: MaskArray) -> tuple[slice, ...] | None:
    """Return the smallest box around a mask (z, y, x); None for an empty one."""
    spans = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(found):
            return None
        spans.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(spans)


def _largest(components: NDArray[Any], sizes: NDArray[np.int64]) -> int:
    """Return the number of the largest component; among equals the first one, since the library promises no order."""
    # Number 0 is the background and no component.
    ties = 1 + np.flatnonzero(sizes[1:] == sizes[1:].max())
    if len(ties) == 1:
        return int(ties[0])
    # `ravel` is in (z, y, x) order for any memory order, and `argmax` takes the first voxel of a tied component.
    flat = components.ravel()
    return int(flat[np.isin(flat, ties).argmax()])
