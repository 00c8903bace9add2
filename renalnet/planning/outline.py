"""Outline of the kidney as it would be without its tumor, and the share of the tumor outside it.

E of R.E.N.A.L. (Kutikov and Uzzo, Journal of Urology, 2009) is the share of a tumor that is exophytic: outside the
natural border of the kidney. No label shows that border at the tumor, so the outline is continued there:

1. The kidney is stretched until its variance is the same in all directions, which turns an ellipsoid into a ball.
2. The distance of its surface from its centre is known in the directions in which no tumor covers it.
3. In the other directions it is interpolated smoothly (thin-plate spline on the sphere of directions).

This requires that the surface can be seen from the centre. At the hilum it cannot; there the outermost surface is used,
so that the sinus is inside.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.planning.extent import Points, covariance, surface_points_mm, voxel_centres_mm
from renalnet.types import MaskArray, Triple

if TYPE_CHECKING:
    from scipy.spatial import KDTree

_NUM_DIRECTIONS: Final = 1500
"""Directions, evenly distributed over the sphere, 5 degrees apart."""
_NUM_NEIGHBOURS: Final = 80
"""Directions with a known outline from which an unknown one is interpolated."""
_SMOOTHING: Final = 1e-4
"""Smoothing of the spline."""
_RIM_VOXELS: Final = 1.5
_RIM_MM: Final = 4.5
"""Width around the tumor in which the outline is not used, in voxels of the coarsest axis and in mm; the larger one."""
_OUTER: Final = 0.9
"""Points closer to the centre than this share of the farthest one of their direction belong to the sinus."""
_MOST_PLACES: Final = 20_000
"""Largest number of voxels of a tumor that are counted, evenly distributed; each interpolation takes 0.1 ms."""
_LEAST: Final = 1e-6
"""Least length and variance, so that nothing is divided by 0."""
_GOLDEN_ANGLE: Final = np.pi * (3 - np.sqrt(5))


def exophytic_share(kidney: MaskArray, tumor: MaskArray, spacing_mm: Triple) -> float:
    """Return the share of the tumor's volume outside the kidney's continued outline, 0 to 1.

    Args:
        kidney: boolean mask (z, y, x) of the kidney without the tumor; not empty.
        tumor: boolean mask of the same shape; not empty.
        spacing_mm: voxel spacing (z, y, x).
    """
    stretched = _Stretched.of(voxel_centres_mm(kidney, spacing_mm))
    in_tumor = voxel_centres_mm(tumor, spacing_mm)
    # Every n-th voxel, with n rounded up.
    to_tumor = stretched.from_centre(in_tumor[:: -(-len(in_tumor) // _MOST_PLACES)])
    distance = np.maximum(np.linalg.norm(to_tumor, axis=1), _LEAST)
    surfaces = [stretched.from_centre(surface_points_mm(mask, spacing_mm, smoothing=0)) for mask in (kidney, tumor)]
    rim_mm = max(_RIM_VOXELS * max(spacing_mm), _RIM_MM)
    # In this space the kidney is about a ball, so a length over its radius is an angle.
    directions, radii = _known_outline(*surfaces, rim=rim_mm / stretched.unit_mm)
    if len(directions) <= _NUM_NEIGHBOURS:  # the tumor covers nearly the whole surface of the kidney
        return 1.0
    from scipy.interpolate import RBFInterpolator

    continued = RBFInterpolator(directions, radii, neighbors=_NUM_NEIGHBOURS, smoothing=_SMOOTHING)
    return float((distance > continued(to_tumor / distance[:, None])).mean())


@dataclass(frozen=True, eq=False)
class _Stretched:
    """Space in which a body has its centre at 0 and variance 1 in every direction."""

    centre_mm: Points
    """Centre of the body (3,)."""
    stretch: Points
    """Linear map (3, 3) from mm to this space."""
    unit_mm: float
    """Radius, in mm, of a ball with the volume of the body's ellipsoid of inertia."""

    @classmethod
    def of(cls, body_mm: Points) -> "_Stretched":
        values, vectors = np.linalg.eigh(covariance(body_mm))
        sd_mm = np.sqrt(np.maximum(values, _LEAST))
        # A ball of radius r has the variance r² / 5 along each axis; the geometric mean keeps the volume.
        return cls(
            body_mm.mean(axis=0), (vectors / sd_mm) @ vectors.T, float(np.sqrt(5) * np.exp(np.log(sd_mm).mean()))
        )

    def from_centre(self, points_mm: Points) -> Points:
        return np.asarray((points_mm - self.centre_mm) @ self.stretch)


def _known_outline(kidney: Points, tumor: Points, *, rim: float) -> tuple[Points, Points]:
    """Return directions (n, 3) with a known outline, and the distance (n,) of the kidney's surface in each.

    Args:
        kidney: points of the kidney's surface, relative to the centre.
        tumor: points of the tumor's surface, likewise.
        rim: angle around the tumor, in radians, in which the outermost points of the kidney are those of its edge.
    """
    from scipy.spatial import KDTree

    directions = _even_directions()
    evenly = KDTree(directions)
    (places, distance), (of_tumor, to_tumor) = (_by_direction(evenly, points) for points in (kidney, tumor))
    farthest, tumor_farthest = np.zeros((2, _NUM_DIRECTIONS))
    # `at`, because several points can have the same direction, of which plain indexing would keep one.
    np.maximum.at(farthest, places, distance)
    np.maximum.at(tumor_farthest, of_tumor, to_tumor)
    is_outer = distance > _OUTER * farthest[places]
    number = np.bincount(places[is_outer], minlength=_NUM_DIRECTIONS)
    total = np.bincount(places[is_outer], distance[is_outer], minlength=_NUM_DIRECTIONS)
    # At least `_LEAST`, or directions that neither surface reaches would count as covered.
    is_covered = tumor_farthest >= np.maximum(farthest, _LEAST)
    is_known = (number > 0) & ~_is_near(directions, directions[is_covered], rim)
    return directions[is_known], total[is_known] / number[is_known]


def _is_near(directions: Points, others: Points, angle: float) -> MaskArray:
    """Return whether one of the others is within a small angle, in radians, of each direction."""
    if not len(others):
        return np.zeros(len(directions), dtype=bool)
    from scipy.spatial import KDTree

    distance, _ = KDTree(others).query(directions)
    # Between unit vectors, a small angle is nearly the length of the chord.
    return np.asarray(distance <= angle)


def _by_direction(evenly: "KDTree", points: Points) -> tuple[NDArray[np.intp], Points]:
    """Return the number of the even direction nearest to each point, and the point's distance from the centre."""
    distance = np.linalg.norm(points, axis=1)
    _, places = evenly.query(points / np.maximum(distance, _LEAST)[:, None])
    return np.asarray(places), np.asarray(distance)


def _even_directions() -> Points:
    """Return unit vectors (n, 3) on a spiral from pole to pole (Fibonacci lattice)."""
    height = 1 - 2 * (np.arange(_NUM_DIRECTIONS) + 0.5) / _NUM_DIRECTIONS
    angle = _GOLDEN_ANGLE * np.arange(_NUM_DIRECTIONS)
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=1)
