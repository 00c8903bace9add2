"""Areas of surfaces in a mask by Crofton's formula: crossings of straight lines are counted, not faces of voxels.

Faces of voxels overstate an oblique surface by up to 73 %. The mean number of crossings of lines of all directions is
half the area; directions of the grid stand for all, each with the part of the sphere that is nearest to it
(Lehmann and Legland, Image Analysis & Stereology, 2012). Steps are as long as two voxels, three along axes of finer
spacing: with the 13 directions between neighbours alone an ellipsoid of a kidney's form at 3 × 0.8 × 0.8 mm comes out
5 % too small, and a plane along the axes 20 %.

Lines are not seen where they leave the body within a step, so that a contact that ends in a sharp edge is too small.
A ball of 5 cm cut by a plane, whose contact is a disc, loses up to 6.5 % of it at 1 × 0.65 × 0.65 mm, 13 % at
3 × 0.8 × 0.8 and 18.5 % at 5 × 1 × 1, most where the plane is axial. Contacts that are curved as a tumor's lose less.
"""

from collections.abc import Sequence
from itertools import product
from math import gcd
from typing import Final

import numpy as np
from scipy.spatial import SphericalVoronoi

from renalnet.types import MaskArray, Triple

_LONGEST_STEP: Final = 3
"""Voxels, along an axis; a body thinner than a step may be missed by it."""
_MM2_PER_CM2: Final = 100.0


def surface_cm2(mask: MaskArray, spacing_mm: Triple) -> float:
    """Area of the surface of a boolean mask (z, y, x), in cm²; 0 of an empty one.

    Outside the volume there is nothing, so that a mask cut off by the border is closed there.
    """
    padded = np.pad(mask, 1)
    voxel_mm3 = float(np.prod(spacing_mm))
    steps = _steps(spacing_mm)
    area_mm2 = sum(
        2 * weight * _num_crossings(padded, step) * voxel_mm3 / float(np.linalg.norm(np.multiply(step, spacing_mm)))
        for step, weight in zip(steps, _weights(steps, spacing_mm), strict=True)
    )
    return area_mm2 / _MM2_PER_CM2


def contact_cm2(first: MaskArray, second: MaskArray, spacing_mm: Triple) -> float:
    """Area, in cm², in which two masks without a common voxel touch: half of what joining them takes off the areas."""
    apart = surface_cm2(first, spacing_mm) + surface_cm2(second, spacing_mm)
    return max(0.0, (apart - surface_cm2(first | second, spacing_mm)) / 2)


def _steps(spacing_mm: Triple) -> list[tuple[int, ...]]:
    """In voxels (z, y, x), one of each opposite pair, none a multiple of another."""
    reach = [int(np.clip(round(2 * max(spacing_mm) / spacing), 2, _LONGEST_STEP)) for spacing in spacing_mm]
    steps = product(*(range(-most, most + 1) for most in reach))
    return [step for step in steps if step > (0, 0, 0) and gcd(*step) == 1]


def _weights(steps: Sequence[tuple[int, ...]], spacing_mm: Triple) -> list[float]:
    """Each step's part of the sphere of directions, that of its opposite included."""
    directions = np.array(steps) * np.array(spacing_mm)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    parts = SphericalVoronoi(np.concatenate([directions, -directions])).calculate_areas() / (4 * np.pi)
    return [float(part) for part in parts[: len(steps)] + parts[len(steps) :]]


def _num_crossings(padded: MaskArray, step: tuple[int, ...]) -> int:
    """Pairs of voxels a step apart of which one is in the mask."""
    here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, padded.shape, strict=True))
    there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, padded.shape, strict=True))
    return int(np.count_nonzero(padded[here] != padded[there]))
