"""Simulation of the scanner: a point spread function, then noise that is correlated between neighbouring voxels."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from renalnet.config import PhantomConfig
from renalnet.types import FloatArray, HuArray, Triple

NOISE_GRAIN_MM = 0.7
"""Standard deviation of the kernel that correlates the noise, as a reconstruction kernel does."""
VOXEL_SPREAD = 12**-0.5
"""Standard deviation of a uniform distribution of width 1, because a voxel averages over its own extent."""
# The 12 bits of a CT number with its usual offset of -1024.
SCANNER_HU_RANGE = (-1024, 3071)


def scan(tissue_hu: FloatArray, spacing_mm: Triple, config: PhantomConfig, rng: np.random.Generator) -> HuArray:
    """Return the image of a body (z, y, x) in HU, blurred by `blur_mm` and with correlated noise of `noise_hu`."""
    image = tissue_hu
    if config.blur_mm > 0:
        # Variances add: the spread of the scanner and the extent of a voxel are independent.
        sigmas = [math.hypot(config.blur_mm, VOXEL_SPREAD * spacing) / spacing for spacing in spacing_mm]
        image = gaussian_filter(image, sigmas, truncate=3.0)
    if config.noise_hu > 0:
        image = image + config.noise_hu * _noise(rng, image.shape, spacing_mm)
    return np.asarray(np.clip(np.rint(image), *SCANNER_HU_RANGE), dtype=np.int16)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: Triple) -> FloatArray:
    white = rng.standard_normal(shape, dtype=np.float32)
    grained = gaussian_filter(white, [NOISE_GRAIN_MM / spacing for spacing in spacing_mm], truncate=2.0)
    # The filter lowers the standard deviation, which `noise_hu` states for the result.
    return np.asarray(grained / grained.std(), dtype=np.float32)
