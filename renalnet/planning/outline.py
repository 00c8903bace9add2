"""The kidney's outline as it would be without its tumor, and how much of the tumor lies outside it.

R.E.N.A.L.'s E (Kutikov and Uzzo, Journal of Urology, 2009) asks which share of a tumor is exophytic, outside the
natural border of the kidney. No label shows that border where the tumor is. Here it is continued: the kidney is
stretched so that it varies as much in all directions, which makes a ball of an ellipsoid; there the distance of its
surface from its centre is known in the directions in which no tumor covers it, and is interpolated smoothly (thin-plate
spline on the sphere of directions) in the others. This holds for a kidney whose surface is seen from its centre; at the
hilum, where it is not, the outermost surface counts, so that the sinus is inside.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from renalnet.planning.extent import Points, covariance, surface_points_mm, voxel_centres_mm
from renalnet.types import MaskArray, Triple

_NUM_DIRECTIONS: Final = 1500
"""Spread evenly over the sphere, 5 degrees apart."""
_NUM_NEIGHBOURS: Final = 80
_SMOOTHING: Final = 1e-4
_RIM_VOXELS: Final = 1.5
_RIM_MM: Final = 4.5
"""Around the tumor: the larger of the two."""
_OUTER: Final = 0.9
"""Points nearer to the centre than this part of the farthest one of a direction are of the sinus."""
_MOST_PLACES: Final = 20_000
"""In a tumor, evenly spread, where its share is counted; an interpolation takes 0.1 ms."""
_LEAST: Final = 1e-6
_GOLDEN_ANGLE: Final = np.pi * (3 - np.sqrt(5))


def exophytic_share(kidney: MaskArray, tumor: MaskArray, spacing_mm: Triple) -> float:
    """Share of the tumor's volume outside the kidney's continued outline, 0-1.

    Args:
        kidney: boolean (z, y, x), without the tumor; not empty.
        tumor: of the same shape; not empty.
        spacing_mm: of the voxels (z, y, x).
    """
    stretched = _Stretched.of(voxel_centres_mm(kidney, spacing_mm))
    in_tumor = voxel_centres_mm(tumor, spacing_mm)
    to_tumor = stretched.from_centre(in_tumor[:: -(-len(in_tumor) // _MOST_PLACES)])
    distance = np.maximum(np.linalg.norm(to_tumor, axis=1), _LEAST)
    surfaces = [stretched.from_centre(surface_points_mm(mask, spacing_mm, smoothing=0)) for mask in (kidney, tumor)]
    rim_mm = max(_RIM_VOXELS * max(spacing_mm), _RIM_MM)
    directions, radii = _known_outline(*surfaces, rim=rim_mm / stretched.unit_mm)
    if len(directions) <= _NUM_NEIGHBOURS:  # next to nothing of the kidney's surface is free: the tumor is around it
        return 1.0
    continued = RBFInterpolator(directions, radii, neighbors=_NUM_NEIGHBOURS, smoothing=_SMOOTHING)
    return float((distance > continued(to_tumor / distance[:, None])).mean())


@dataclass(frozen=True, eq=False)
class _Stretched:
    """Space in which a body varies by one in every direction, from its middle."""

    middle_mm: Points
    stretch: Points
    unit_mm: float
    """What the radius of the body's surface is about, in mm."""

    @classmethod
    def of(cls, body_mm: Points) -> "_Stretched":
        values, vectors = np.linalg.eigh(covariance(body_mm))
        sd_mm = np.sqrt(np.maximum(values, _LEAST))
        return cls(
            body_mm.mean(axis=0), (vectors / sd_mm) @ vectors.T, float(np.sqrt(5) * np.exp(np.log(sd_mm).mean()))
        )

    def from_centre(self, points_mm: Points) -> Points:
        return np.asarray((points_mm - self.middle_mm) @ self.stretch)


def _known_outline(kidney: Points, tumor: Points, *, rim: float) -> tuple[Points, Points]:
    """Directions (n, 3) in which the kidney reaches farther than the tumor, and how far its surface is there, (n,).

    Args:
        kidney: points of its surface, from the centre.
        tumor: likewise.
        rim: angle around the tumor, in radians, in which the kidney's outermost points are those of its edge.
    """
    directions = _even_directions()
    evenly = KDTree(directions)
    (places, distance), (of_tumor, to_tumor) = (_by_direction(evenly, points) for points in (kidney, tumor))
    farthest, tumor_farthest = np.zeros((2, _NUM_DIRECTIONS))
    np.maximum.at(farthest, places, distance)
    np.maximum.at(tumor_farthest, of_tumor, to_tumor)
    is_outer = distance > _OUTER * farthest[places]
    number = np.bincount(places[is_outer], minlength=_NUM_DIRECTIONS)
    total = np.bincount(places[is_outer], distance[is_outer], minlength=_NUM_DIRECTIONS)
    is_covered = tumor_farthest >= np.maximum(farthest, _LEAST)
    is_known = (number > 0) & ~_is_near(directions, directions[is_covered], rim)
    return directions[is_known], total[is_known] / number[is_known]


def _is_near(directions: Points, others: Points, angle: float) -> MaskArray:
    """Whether one of the others is within an angle (in radians, a small one) of each direction."""
    if not len(others):
        return np.zeros(len(directions), dtype=bool)
    distance, _ = KDTree(others).query(directions)
    return np.asarray(distance <= angle)


def _by_direction(evenly: KDTree, points: Points) -> tuple[NDArray[np.intp], Points]:
    """The nearest of the even directions to each point, and its distance from the centre."""
    distance = np.linalg.norm(points, axis=1)
    _, places = evenly.query(points / np.maximum(distance, _LEAST)[:, None])
    return np.asarray(places), np.asarray(distance)


def _even_directions() -> Points:
    """Unit vectors on a spiral from pole to pole (Fibonacci lattice), (n, 3)."""
    height = 1 - 2 * (np.arange(_NUM_DIRECTIONS) + 0.5) / _NUM_DIRECTIONS
    angle, radius = _GOLDEN_ANGLE * np.arange(_NUM_DIRECTIONS), np.sqrt(1 - height**2)
    return np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=1)
