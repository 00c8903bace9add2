"""Bodies of known shape, as voxels and in closed form: an ellipsoid for a kidney and a ball for a tumor."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from renalnet.config import KIDNEY_TUMOR
from renalnet.planning import Kidney, find_kidneys
from renalnet.types import MaskArray, Triple

HALF_AXES_MM = (55.0, 28.0, 25.0)
FIELD_MM = (75.0, 70.0, 60.0)
PLACE = (0.3, 0.2, 0.1)
"""Offset of the grid from the middle of the ellipsoid, in voxels."""


@dataclass(frozen=True)
class Ball:
    """A ball; lengths in mm, positions (z, y, x) relative to the middle of the ellipsoid."""

    middle: Triple
    radius: float

    @property
    def ml(self) -> float:
        return 4 / 3 * np.pi * self.radius**3 / 1000

    @property
    def cm2(self) -> float:
        return 4 * np.pi * self.radius**2 / 100

    @property
    def directions(self) -> np.ndarray:
        drawn = np.random.default_rng(0).normal(size=(200_000, 3))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    @property
    def contact_cm2(self) -> float:
        """Area of its surface inside the ellipsoid, estimated from 200 000 directions."""
        return float(in_ellipsoid(self.middle + self.radius * self.directions).mean()) * self.cm2

    @property
    def share_outside(self) -> float:
        """Share of its volume outside the ellipsoid, estimated from 200 000 points."""
        depth = np.random.default_rng(1).uniform(size=(200_000, 1)) ** (1 / 3)
        return 1 - float(in_ellipsoid(self.middle + self.radius * depth * self.directions).mean())


def in_ellipsoid(points: np.ndarray) -> np.ndarray:
    return (np.square(points / np.array(HALF_AXES_MM)).sum(axis=-1)) < 1


def ellipsoid_cm2() -> float:
    """Return the area of the ellipsoid, by the integral over its parametric surface."""
    c, b, a = HALF_AXES_MM
    t, u = np.meshgrid((np.arange(1000) + 0.5) * np.pi / 1000, (np.arange(1000) + 0.5) * np.pi / 500, indexing="ij")
    east = b * c * np.sin(t) ** 2 * np.cos(u)
    north = a * c * np.sin(t) ** 2 * np.sin(u)
    element = np.sqrt(east**2 + north**2 + (a * b * np.sin(t) * np.cos(t)) ** 2)
    return float(element.sum()) * (np.pi / 1000) * (np.pi / 500) / 100


@cache
def places(spacing_mm: Triple) -> np.ndarray:
    """Return the centres of the voxels (z, y, x, 3) in mm."""
    return np.stack(np.meshgrid(*axes_mm(spacing_mm), indexing="ij"), axis=-1)


def axes_mm(spacing_mm: Triple) -> list[np.ndarray]:
    """Return the centres of the voxels along z, y and x in mm."""
    axes = []
    for half, spacing, place in zip(FIELD_MM, spacing_mm, PLACE, strict=True):
        number = int(np.ceil(2 * half / spacing))
        axes.append((np.arange(number) - (number - 1) / 2 + place) * spacing)
    return axes


@cache
def ellipsoid(spacing_mm: Triple) -> MaskArray:
    mask = in_ellipsoid(places(spacing_mm))
    mask.flags.writeable = False  # tests share it
    return mask


def ball(body: Ball, spacing_mm: Triple) -> MaskArray:
    # Axis by axis: the distances of all voxels as vectors would take most of the time of these tests.
    axes = zip(axes_mm(spacing_mm), body.middle, strict=True)
    z, y, x = (np.square(axis - middle) for axis, middle in axes)
    return z[:, None, None] + y[:, None] + x < body.radius**2


def kidney_with(body: Ball, spacing_mm: Triple) -> Kidney:
    """Return an ellipsoid with a ball, which replaces the ellipsoid where they overlap."""
    labels = ellipsoid(spacing_mm).astype(np.uint8)
    labels[ball(body, spacing_mm)] = 2
    (kidney,) = find_kidneys(labels, spacing_mm, KIDNEY_TUMOR)
    return kidney
