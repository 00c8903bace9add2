"""Simulation of the scanner: a point spread function, artifacts, and noise that is correlated between voxels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from renalnet.config import PhantomConfig, ReconstructionKernel
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.types import FloatArray, HuArray, Triple

NOISE_GRAIN_MM: Final = 0.7
"""Standard deviation of the narrow painter's kernel that correlates the noise, as a reconstruction kernel does."""
VOXEL_SPREAD: Final = 12**-0.5
"""Standard deviation of a uniform distribution of width 1, because a voxel averages over its own extent."""
# The 12 bits of a CT number with its usual offset of -1024.
SCANNER_HU_RANGE: Final = (-1024, 3071)
SLICE_MM: Final = (0.5, 5.0)
"""Range of the slice thickness of wide cohorts."""
_BONE_HU: Final = 250.0
_KERNELS: Final[dict[ReconstructionKernel, tuple[float, float, float, float]]] = {
    "smooth": (1.3, 0.55, 1.3, 0.0),
    "standard": (1.0, 1.0, 0.7, 0.0),
    "sharp": (0.6, 1.7, 0.45, 0.6),
}
"""Factors of blur and noise, the grain of the noise in mm, and the amount of edge enhancement."""


@dataclass(frozen=True)
class Acquisition:
    """How one scan is taken and reconstructed."""

    noise_hu: float
    """Standard deviation of the noise."""
    blur_mm: float
    """Standard deviation of the point spread function."""
    grain_mm: float = NOISE_GRAIN_MM
    """Standard deviation of the kernel that correlates the noise."""
    edge_enhancement: float = 0.0
    """Weight of the unsharp mask of a sharp kernel; it leaves dark and bright rims at edges."""
    thickness_mm: float = 0.0
    """Thickness of a slice; 0 for the spacing of the voxels."""
    motion_mm: float = 0.0
    """Shift between two positions of the patient whose images are mixed, as by breathing."""
    streaks_hu: float = 0.0
    """Standard deviation of horizontal streaks in the rows that contain most bone, as beside arms and spine."""
    cupping_hu: float = 0.0
    """Decrease of CT numbers at the centre of the body by beam hardening."""


def narrow_acquisition(config: PhantomConfig) -> Acquisition:
    """Return the acquisition of every scan of a narrow cohort."""
    return Acquisition(config.noise_hu, config.blur_mm)


def draw_acquisition(
    rng: np.random.Generator, config: PhantomConfig, width_mm: float, kernels: Sequence[ReconstructionKernel]
) -> Acquisition:
    """Draw the acquisition of one scan of a wide cohort.

    Args:
        rng: generator of the draw.
        config: settings of the cohort, with the mean noise and blur.
        width_mm: width of the body. The noise grows with it, since broad bodies absorb more.
        kernels: reconstruction kernels to draw from.
    """
    blur, noise, grain_mm, edge = _KERNELS[kernels[int(rng.integers(len(kernels)))]]
    low, high = np.log(SLICE_MM)
    thickness_mm = float(np.exp(rng.uniform(low, high)))
    # Quantum noise falls with the square root of the thickness; tube current control compensates a part of the width.
    by_body = math.exp((width_mm - 330) / 250)
    by_slice = math.sqrt(2 / max(thickness_mm, 1.0))
    is_moved = rng.random() < 0.2
    return Acquisition(
        noise_hu=config.noise_hu * float(np.clip(noise * by_body * by_slice * rng.uniform(0.6, 1.5), 0.2, 3.0)),
        blur_mm=config.blur_mm * blur * float(rng.uniform(0.7, 1.4)),
        grain_mm=grain_mm * float(rng.uniform(0.8, 1.3)),
        edge_enhancement=edge * float(rng.uniform(0.5, 1.5)),
        thickness_mm=thickness_mm,
        motion_mm=float(rng.uniform(1, 4)) if is_moved else 0.0,
        streaks_hu=float(rng.uniform(2, 18)) * by_body if rng.random() < 0.35 else 0.0,
        cupping_hu=float(rng.uniform(0, 12)),
    )


def scan(tissue_hu: FloatArray, spacing_mm: Triple, taken: Acquisition, rng: np.random.Generator) -> HuArray:
    """Return the image of a body (z, y, x) in HU, as the scanner would show it."""
    image = _moved(tissue_hu, spacing_mm, taken)
    image = _blurred(image, spacing_mm, taken)
    image = _with_artifacts(image, spacing_mm, taken, rng)
    if taken.noise_hu > 0:
        image = image + taken.noise_hu * _noise(rng, image.shape, spacing_mm, taken.grain_mm)
    return np.asarray(np.clip(np.rint(image), *SCANNER_HU_RANGE), dtype=np.int16)


def _moved(image: FloatArray, spacing_mm: Triple, taken: Acquisition) -> FloatArray:
    """Return the mean of the image and of itself after a shift towards the back and the head."""
    if not taken.motion_mm:
        return image
    shift = [taken.motion_mm / spacing_mm[0], 0.5 * taken.motion_mm / spacing_mm[1], 0]
    return 0.5 * (image + ndimage.shift(image, shift, order=1, mode="nearest"))


def _blurred(image: FloatArray, spacing_mm: Triple, taken: Acquisition) -> FloatArray:
    if taken.blur_mm > 0:
        # Variances add: the spread of the scanner and the extent of a voxel are independent.
        extent_mm = (max(taken.thickness_mm, spacing_mm[0]), *spacing_mm[1:])
        spreads = zip(spacing_mm, extent_mm, strict=True)
        sigmas = [math.hypot(taken.blur_mm, VOXEL_SPREAD * extent) / spacing for spacing, extent in spreads]
        image = ndimage.gaussian_filter(image, sigmas, truncate=3.0)
    if taken.edge_enhancement:
        wide = ndimage.gaussian_filter(image, [0, *(1.5 / spacing for spacing in spacing_mm[1:])], truncate=2.0)
        image = image + taken.edge_enhancement * (image - wide)
    return image


def _with_artifacts(image: FloatArray, spacing_mm: Triple, taken: Acquisition, rng: np.random.Generator) -> FloatArray:
    if taken.cupping_hu:
        inside = ndimage.gaussian_filter((image > -500).astype(np.float32), [0, *(60 / s for s in spacing_mm[1:])])
        image = image - np.float32(taken.cupping_hu) * inside * (image > -500)
    if taken.streaks_hu:
        image = image + _streaks(image, spacing_mm, rng) * np.float32(taken.streaks_hu)
    return image


def _streaks(image: FloatArray, spacing_mm: Triple, rng: np.random.Generator) -> FloatArray:
    """Return a field of lines along x, of standard deviation 1 in the rows with most bone."""
    bone = (image > _BONE_HU).mean(axis=2, keepdims=True)
    bone = ndimage.gaussian_filter(bone, [0, 8 / spacing_mm[1], 0])
    lines = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    fading = smooth_field(rng, shape, spacing_mm, 60.0)
    return np.asarray(lines * fading * (bone / max(float(bone.max()), 1e-6)), dtype=np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: Triple, grain_mm: float) -> FloatArray:
    white = rng.standard_normal(shape, dtype=np.float32)
    grained = ndimage.gaussian_filter(white, [grain_mm / spacing for spacing in spacing_mm], truncate=2.0)
    # The filter lowers the standard deviation, which `noise_hu` states for the result.
    return np.asarray(grained / grained.std(), dtype=np.float32)
