"""Smooth random fields drawn on a coarse lattice and read through cubic B-splines: big scales are cheap."""

import math

import numpy as np
from numpy.typing import NDArray

from renalnet.types import FloatArray, Shape, Triple


def smooth_field(rng: np.random.Generator, shape: Shape, spacing_mm: Triple, scale_mm: float) -> FloatArray:
    """A Gaussian random field (z, y, x) of mean 0 and standard deviation 1 on a lattice of `scale_mm`."""
    sizes = [math.ceil(length * step / scale_mm) + 4 for length, step in zip(shape, spacing_mm, strict=True)]
    field = rng.standard_normal(sizes, dtype=np.float32)
    for axis in (2, 1, 0):  # the small axes first: the large product comes last and once
        weights = _spline_weights(shape[axis], spacing_mm[axis] / scale_mm, sizes[axis])
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _spline_weights(length: int, step: float, num_nodes: int) -> NDArray[np.float32]:
    """(length, num_nodes) cubic B-spline weights, each row scaled so that the field keeps unit variance."""
    position = np.arange(length)[:, None] * step + 1.5
    distance = np.abs(position - np.arange(num_nodes)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)
