"""Where the classes of an ROI lie, slab by slab: all that focused sampling needs, and none of it pixels."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.types import FOREGROUND_LABELS, LabelArray

NUM_ANCHORS: Final = 16
"""Voxels of each class that a slab remembers; crops placed on them at random offsets vary far more."""


@dataclass(frozen=True)
class ClassLocations:
    """The slabs of an ROI."""

    counts: NDArray[np.int64]
    """Voxels of each label, (slabs, 3)."""
    starts: NDArray[np.int64]
    """First slice of each slab, (slabs,)."""
    kidney: tuple[NDArray[np.int16], ...]
    """Some kidney voxels (z, y, x) of the ROI for each slab, (n, 3) with n up to `NUM_ANCHORS`."""
    tumor: tuple[NDArray[np.int16], ...]
    """As `kidney`, of the tumor."""

    def anchors(self, label: int) -> tuple[NDArray[np.int16], ...]:
        """The remembered voxels of a foreground label, slab by slab."""
        return dict(zip(FOREGROUND_LABELS, (self.kidney, self.tumor), strict=True))[label]


def draw_anchors(slab: LabelArray, z_start: int, label: int, case: str) -> NDArray[np.int16]:
    """Up to `NUM_ANCHORS` voxels (z, y, x) of `label` in a slab that begins at `z_start`, (n, 3).

    Drawn from the case's name and the slab's place, so that they depend on nothing else. None for an absent label.
    """
    voxels = np.flatnonzero(slab == label)
    if len(voxels) > NUM_ANCHORS:
        digest = hashlib.sha256(f"{case}:{z_start}:{label}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        voxels = np.sort(generator.choice(voxels, NUM_ANCHORS, replace=False))
    z, y, x = np.unravel_index(voxels, slab.shape)
    return np.stack([z + z_start, y, x], axis=1).astype(np.int16)
