"""Signature of a scan: a coarse picture of the lesioned kidney's surroundings that survives another export.

The box around the kidney is averaged to 8×8×8 cells, whatever its spacing. The cells are folded over the three middle
planes, so that a flip changes nothing; 64 cells of one byte remain. Cropping the scan outside the box changes nothing
either.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.types import FloatArray, HuArray

NUM_CELLS: Final = 8
HU_MIN: Final = -200.0
HU_MAX: Final = 300.0
"""Bounds to which CT numbers are clipped; fat, water, parenchyma and contrast agent differ between them."""
LENGTH: Final = (NUM_CELLS // 2) ** 3
"""Number of cells after folding, and of bytes of a signature."""
HU_STEP: Final = (HU_MAX - HU_MIN) / 255
"""Difference of CT numbers between two byte values."""


def coarse_signature(box: HuArray) -> str:
    """Return the signature of a kidney's box as 128 hexadecimal digits.

    Args:
        box: image (z, y, x) in HU, at least one voxel.
    """
    cells: NDArray[Any] = np.clip(box, HU_MIN, HU_MAX).astype(np.float32)
    for axis in range(3):
        # Means of boxes are separable: each axis shrinks the array before the next one is averaged.
        weights = _cell_weights(cells.shape[axis])
        folded = (weights + weights[::-1])[: NUM_CELLS // 2] / 2
        cells = np.moveaxis(np.tensordot(folded, cells, axes=(1, axis)), 0, axis)
    stored: NDArray[np.uint8] = np.rint((cells - HU_MIN) / HU_STEP).astype(np.uint8)
    return stored.tobytes().hex()


def to_hu(cells: NDArray[np.uint8]) -> FloatArray:
    """Return the bytes of signatures in HU, float32 of the same shape."""
    return cells.astype(np.float32) * np.float32(HU_STEP) + np.float32(HU_MIN)


def _cell_weights(size: int) -> FloatArray:
    """Return the share of each voxel of a line in each of the equal cells that divide it.

    Shape (cells, size); each row sums to 1. A voxel on the border of two cells counts in both by its overlap.
    """
    edges = np.arange(NUM_CELLS + 1) * (size / NUM_CELLS)
    voxels = np.arange(size)
    low = edges[:-1, None]
    high = edges[1:, None]
    overlap: NDArray[np.float64] = np.clip(np.minimum(high, voxels + 1) - np.maximum(low, voxels), 0, None)
    shares: FloatArray = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
