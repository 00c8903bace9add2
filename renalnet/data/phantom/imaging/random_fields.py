"""Smooth random fields on a coarse lattice, interpolated by cubic B-splines, so that large scales are cheap."""

import math

import numpy as np
from numpy.typing import NDArray

from renalnet.types import FloatArray, Shape, Triple


def smooth_field(rng: np.random.Generator, shape: Shape, spacing_mm: Triple, scale_mm: float) -> FloatArray:
    """Return a Gaussian random field (z, y, x) of mean 0 and standard deviation 1, smooth below `scale_mm`."""
    sizes = [math.ceil(length * spacing / scale_mm) + 4 for length, spacing in zip(shape, spacing_mm, strict=True)]
    field = rng.standard_normal(sizes, dtype=np.float32)
    # Axis by axis from the coarse lattice: only the last product has the size of the volume.
    for axis in (2, 1, 0):
        weights = _spline_weights(shape[axis], spacing_mm[axis] / scale_mm, sizes[axis])
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _spline_weights(length: int, nodes_per_voxel: float, num_nodes: int) -> NDArray[np.float32]:
    """Return cubic B-spline weights (length, num_nodes); rows have norm 1, so that the field keeps unit variance."""
    # A cubic B-spline reaches two nodes to either side; hence the offset, and four nodes more than the voxels span.
    position = np.arange(length)[:, None] * nodes_per_voxel + 1.5
    distance = np.abs(position - np.arange(num_nodes)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)
