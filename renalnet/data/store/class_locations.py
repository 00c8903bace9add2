"""The locations of the classes of an ROI, slab by slab: all that focused sampling needs, without reading voxels."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.types import LabelArray

NUM_ANCHORS: Final = 16
"""Number of voxels of each class that a slab lists. It may be small, because crops have random offsets from them."""


@dataclass(frozen=True)
class ClassLocations:
    """Class counts and example voxels of each slab of an ROI."""

    counts: NDArray[np.int64]
    """Voxels of each class by value, shape (slabs, classes)."""
    starts: NDArray[np.int64]
    """First slice of each slab, shape (slabs,)."""
    listed: tuple[tuple[NDArray[np.int16], ...], ...]
    """Some voxels (z, y, x) of each label from value 1 on, in each slab: shape (n, 3) with n up to `NUM_ANCHORS`."""

    def anchors(self, label: int) -> tuple[NDArray[np.int16], ...]:
        """Return the listed voxels of a label by its value, slab by slab. Raises IndexError for an unknown value."""
        return self.listed[label - 1]


def draw_anchors(slab: LabelArray, z_start: int, label: int, case: str) -> NDArray[np.int16]:
    """Draw up to `NUM_ANCHORS` voxels (z, y, x) of `label` in a slab that begins at `z_start`, shape (n, 3).

    The draw depends on the case's name and the slab's place alone. A label that is absent gives shape (0, 3).
    """
    voxels = np.flatnonzero(slab == label)
    if len(voxels) > NUM_ANCHORS:
        # Python's `hash` of a string differs between processes; SHA-256 does not.
        digest = hashlib.sha256(f"{case}:{z_start}:{label}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        voxels = np.sort(generator.choice(voxels, NUM_ANCHORS, replace=False))
    z, y, x = np.unravel_index(voxels, slab.shape)
    return np.stack([z + z_start, y, x], axis=1).astype(np.int16)
