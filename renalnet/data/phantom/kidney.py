"""Synthetic kidneys with their tumors as label maps, and the CT numbers of healthy parenchyma."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.images.grid import voxel_ml
from renalnet.data.phantom.coordinates import BodyCoordinates, Region
from renalnet.data.phantom.imaging import tissue
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.types import FloatArray, LabelArray, MaskArray, Triple

KIDNEY_SITE_MM: Final = {"left": (4.0, 34.0, 64.0), "right": (-8.0, 34.0, -64.0)}
"""Mean centre of each kidney (z, y, x) in `BodyCoordinates`."""
KIDNEY_VOLUME_ML: Final = (85.0, 260.0)
"""Range of the parenchyma of one kidney (paper)."""
KIDNEY_MEAN_ML: Final = 156.0
KIDNEY_SPREAD_ML: Final = 36.0
"""Standard deviation of the volume before it is clipped."""
REACH_MM: Final = (115.0, 100.0, 100.0)
"""Largest distance (z, y, x) of a voxel of kidney or tumor from the kidney's centre."""


@dataclass(frozen=True)
class KidneyShape:
    """Place, size and orientation of a synthetic kidney."""

    centre_mm: Triple
    half_axes_mm: Triple
    """Lengths along the long axis, towards the hilum, and across both."""
    axes: NDArray[np.float64]
    """Unit vectors (z, y, x) of the half axes as rows, shape (3, 3)."""
    volume_ml: float
    """Volume of the parenchyma."""


def draw_kidney_volume_ml(rng: np.random.Generator) -> float:
    """Draw the parenchyma of one kidney, within the paper's 85 to 260 ml around its mean of 156 ml."""
    low, high = KIDNEY_VOLUME_ML
    # 3 ml from the bounds, so that the voxels of the painted kidney stay within them.
    return float(np.clip(rng.normal(KIDNEY_MEAN_ML, KIDNEY_SPREAD_ML), low + 3, high - 3))


def draw_kidney(side: str, volume_ml: float, rng: np.random.Generator, spread: float = 1.0) -> KidneyShape:
    """Draw a kidney; its upper pole leans inwards and back, its hilum faces inwards and forwards.

    `spread` is a factor of its variation in place.
    """
    outwards = 1.0 if side == "left" else -1.0
    long = _unit(np.array([1.0, rng.uniform(0.1, 0.35), -outwards * rng.uniform(0.15, 0.45)]))
    hilum = np.array([0.0, -rng.uniform(0.2, 0.9), -outwards])
    # Orthogonal to the long axis, so that the three axes are a rotation.
    hilum = _unit(hilum - (hilum @ long) * long)
    long_ratio = rng.uniform(1.85, 2.2)
    wide_ratio = rng.uniform(1.0, 1.18)
    # 0.86: share of the ellipsoid that the hilum and the sinus leave to the parenchyma.
    thick = (volume_ml * 1000 / 0.86 * 3 / (4 * math.pi) / (long_ratio * wide_ratio)) ** (1 / 3)
    z, y, x = np.array(KIDNEY_SITE_MM[side]) + rng.uniform(-1, 1, 3) * (14 * spread, 5 * spread, 4 * spread)
    half_axes = (thick * long_ratio, thick * wide_ratio, thick)
    return KidneyShape(
        (float(z), float(y), float(x)), half_axes, np.stack([long, hilum, np.cross(long, hilum)]), volume_ml
    )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def add_kidney(
    label: LabelArray,
    space: BodyCoordinates,
    forbidden: MaskArray,
    shape: KidneyShape,
    tumor_ml: float,
    rng: np.random.Generator,
    labels: LabelSet,
) -> float:
    """Write a kidney into `label`, with a tumor where `tumor_ml` is above 0.

    The fat of the renal sinus stays background, as in KiTS.

    Returns:
        Share of the tumor outside the kidney's natural outline: 0 for an endophytic, 1 for an exophytic one; 0 without
        tumor.
    """
    region = space.around(shape.centre_mm, REACH_MM)
    remoteness, sinus = _remoteness(space, region, shape, rng)
    blocked = forbidden[region] | (label[region] > 0)
    of_voxel_ml = voxel_ml(space.spacing_mm)
    exophytic = 0.0
    tumor = np.zeros_like(blocked)
    if tumor_ml > 0:
        # The kidney as it would be without tumor and sinus; only the exophytic share needs it.
        outline = _smallest(np.where(blocked, np.inf, remoteness), shape.volume_ml / of_voxel_ml)
        distance = _tumor_distance(space, region, shape, tumor_ml, rng)
        tumor = _smallest(np.where(blocked, np.inf, distance), tumor_ml / of_voxel_ml)
        exophytic = float(1 - (tumor & outline).sum() / max(tumor.sum(), 1))
    free = ~(blocked | tumor | sinus)
    # The parenchyma keeps its volume: the surface moves outwards by what tumor and sinus take.
    kidney = _smallest(np.where(free, remoteness, np.inf), shape.volume_ml / of_voxel_ml)
    label[region][kidney] = labels.kidney.value
    label[region][tumor] = labels.tumor.value
    return exophytic


def _smallest(values: FloatArray, count: float) -> MaskArray:
    """Return a mask of the `count` smallest values, which gives a shape its exact volume however it is bent."""
    # Blocked voxels are infinite and must not be chosen, even where the count exceeds the free ones.
    wanted = min(round(count), int(np.isfinite(values).sum()) - 1)
    return np.asarray(values < np.partition(values, wanted, axis=None)[wanted])


def _remoteness(
    space: BodyCoordinates, region: Region, shape: KidneyShape, rng: np.random.Generator
) -> tuple[FloatArray, MaskArray]:
    """Return the squared radius of a bean shape (1 at its surface), and the mask of its sinus."""
    offsets = space.offsets(region, shape.centre_mm)
    along, inwards, across = (
        sum(w * o for w, o in zip(axis, offsets, strict=True)) for axis in shape.axes.astype(np.float32)
    )
    long, wide, thick = shape.half_axes_mm
    box = (across.shape[0], across.shape[1], across.shape[2])
    lobes = smooth_field(rng, box, space.spacing_mm, 20.0)
    curved = inwards - 0.22 * wide * ((along / long) ** 2 - 0.35)  # the poles bend towards the spine
    squared = (along / long) ** 2 + (curved / wide) ** 2 + (across / thick) ** 2 + 0.09 * lobes
    sinus = (
        (along / (0.46 * long)) ** 2 + ((curved - 0.85 * wide) / (0.85 * wide)) ** 2 + (across / (0.42 * thick)) ** 2
    )
    return squared.astype(np.float32), np.asarray(sinus + 0.2 * lobes < 1)


def _tumor_distance(
    space: BodyCoordinates, region: Region, shape: KidneyShape, volume_ml: float, rng: np.random.Generator
) -> FloatArray:
    """Return the distance from a point on or in the kidney, in radii of an irregular tumor of `volume_ml`."""
    radius = (volume_ml * 1000 * 3 / (4 * math.pi)) ** (1 / 3)
    # Tumors of more than 18 mm radius are never nearly enclosed, because a kidney is too thin for that.
    outside = rng.uniform(-0.85, 0.8) if radius < 18 else rng.uniform(-0.4, 0.8)
    seat = _seat(shape, outside * radius, rng)
    stretch = rng.uniform(0.85, 1.18, 3)
    z, y, x = (o / (radius * s) for o, s in zip(space.offsets(region, seat), stretch, strict=True))
    distance = np.sqrt(z * z + y * y + x * x)
    box = (distance.shape[0], distance.shape[1], distance.shape[2])
    bumps = smooth_field(rng, box, space.spacing_mm, max(1.0 * radius, 9.0))
    return np.asarray(distance + rng.uniform(0.1, 0.2) * bumps, dtype=np.float32)


def _seat(shape: KidneyShape, outside_mm: float, rng: np.random.Generator) -> Triple:
    """Return a point `outside_mm` above a random place on the kidney's surface that does not face the spine."""
    direction = _unit(rng.standard_normal(3) * (1.2, 1.0, 1.0))
    # Component 1 points to the hilum; places that face it are mirrored to the far side.
    direction[1] = -abs(direction[1]) if direction[1] > 0.35 else direction[1]
    half_axes = np.array(shape.half_axes_mm)
    # Gradient of the ellipsoid: for a point u·a on it, with u on the unit sphere, u/a.
    normal = _unit(direction / half_axes)
    z, y, x = np.array(shape.centre_mm) + (direction * half_axes + outside_mm * normal) @ shape.axes
    return float(z), float(y), float(x)


def parenchyma_hu(
    depth_mm: FloatArray, spacing_mm: Triple, enhancement: tissue.Enhancement, rng: np.random.Generator
) -> FloatArray:
    """Return the CT numbers of healthy parenchyma, (z, y, x): bright cortex and columns, darker pyramids.

    Args:
        depth_mm: depth below the organ's outer surface, (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
        enhancement: enhancement of the patient.
        rng: generator of the pattern.
    """
    box = (depth_mm.shape[0], depth_mm.shape[1], depth_mm.shape[2])
    uneven = smooth_field(rng, box, spacing_mm, 12.0)
    columns = smooth_field(rng, box, spacing_mm, 8.0)
    pyramid = (depth_mm > 6.0 + 1.2 * uneven) & (columns < 0.35)
    hu = np.where(pyramid, enhancement.medulla, enhancement.cortex) + 4 * uneven
    return np.asarray(hu, dtype=np.float32)
