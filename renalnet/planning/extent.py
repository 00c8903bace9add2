"""Lengths of a mask, measured from surface to surface."""

from contextlib import suppress
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.surface import bounding_box, surface
from renalnet.types import FloatArray, MaskArray, Triple

Points: TypeAlias = NDArray[np.float64]
"""Points (n, 3) or (n, 2) in mm from the centre of the volume's first voxel, in the order of the axes."""
_MOST_SMOOTHING: Final = 0.28
"""Largest standard deviation, as a share of the radius of a ball (or disc) of the mask's size. A larger one would
shrink the mask."""
_REACH: Final = 3.0
"""Half width of the truncated Gaussian, in standard deviations."""


def voxel_centres_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> Points:
    """Return the centres of the voxels of a boolean mask in two or three dimensions, (n, 2) or (n, 3)."""
    return np.asarray(np.argwhere(mask) * np.array(spacing_mm))


def covariance(points: Points) -> Points:
    """Return the covariance (3, 3) of the coordinates of one point or more."""
    apart = points - points.mean(axis=0)
    # Not n - 1, which would be 0 for one point.
    return np.asarray(apart.T @ apart / len(points))


def longest_axis(points_mm: Points) -> Points:
    """Return the unit vector (3,) along which points (n, 3) vary most, towards the head."""
    _, vectors = np.linalg.eigh(covariance(points_mm))
    axis: Points = vectors[:, -1]
    # The sign of an eigenvector is arbitrary; z increases towards the head.
    return axis if axis[0] >= 0 else -axis


def polar_lines_mm(along_mm: Points) -> tuple[float, float]:
    """Return the lower and the upper polar line of a kidney: the ends of the middle third between two ends.

    Args:
        along_mm: places (n,) of the kidney along its longest axis.
    """
    low, high = float(along_mm.min()), float(along_mm.max())
    return (2 * low + high) / 3, (low + 2 * high) / 3


def radius_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> float:
    """Return the radius of a ball (or disc) of the size of a boolean mask; 0 for an empty mask."""
    content = float(mask.sum() * np.prod(spacing_mm))
    return float((3 * content / (4 * np.pi)) ** (1 / 3) if mask.ndim == 3 else (content / np.pi) ** 0.5)


def surface_points_mm(mask: MaskArray, spacing_mm: tuple[float, ...], *, smoothing: float = 3.0) -> Points:
    """Return points of the surface of a boolean mask in two or three dimensions; no points for an empty mask.

    The signed distance to the surface (shape-based interpolation: Raya and Udupa, 1990) is smoothed and interpolated
    along axes of coarse spacing. Small masks are smoothed less. Without this, the stairs of thick slices and single
    voxels at the ends would increase the distance between the farthest points.

    Args:
        mask: boolean mask of the body.
        spacing_mm: voxel spacing, in the order of the axes.
        smoothing: standard deviation of the Gaussian in voxels of the finest axis; it is the same in all directions.
    """
    import edt

    if not mask.any():
        return np.empty((0, mask.ndim))
    box = bounding_box(mask)
    smoothing_mm = min(smoothing * min(spacing_mm), _MOST_SMOOTHING * radius_mm(mask, spacing_mm))
    deviation = np.divide(smoothing_mm, spacing_mm)
    # Wide enough that the Gaussian at the surface reads no values beyond the array.
    margin = 1 + np.ceil(_REACH * deviation).astype(int)
    padded = np.pad(mask[box], [(width, width) for width in margin])
    # Both distances are between voxel centres, so the zero is halfway between an inner and an outer voxel.
    distance_mm = edt.edt(padded, anisotropy=spacing_mm) - edt.edt(~padded, anisotropy=spacing_mm)
    from scipy import ndimage

    soft = ndimage.gaussian_filter(distance_mm, deviation, truncate=_REACH)
    # Coarse axes are interpolated to about the finest spacing.
    fineness = np.maximum(1, np.rint(np.divide(spacing_mm, min(spacing_mm)))).astype(int)
    places = [np.arange((size - 1) * fine + 1) / fine for size, fine in zip(soft.shape, fineness, strict=True)]
    fine = ndimage.map_coordinates(soft, np.meshgrid(*places, indexing="ij"), order=1)
    found = [_crossings(fine, axis) for axis in range(mask.ndim)]
    first = [place.start for place in box] - margin
    return np.asarray((np.concatenate(found) / fineness + first) * np.array(spacing_mm))


def _crossings(distance_mm: FloatArray, axis: int) -> Points:
    """Return the points, in voxels, at which the distance changes its sign between neighbours along an axis."""
    here, there = (np.take(distance_mm, range(first, distance_mm.shape[axis] - 1 + first), axis) for first in (0, 1))
    places = np.argwhere((here >= 0) != (there >= 0))
    low, high = (values[tuple(places.T)] for values in (here, there))
    points = places.astype(np.float64)
    # The signs differ, so the divisor is not 0.
    points[:, axis] += low / (low - high)
    return points


def largest_diameter_mm(points: Points) -> float:
    """Return the largest distance between two points, in mm; 0 for fewer than two points."""
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import pdist

    if len(points) < 2:
        return 0.0
    with suppress(QhullError):  # points on a line or a plane have no hull; there are few of them
        # The farthest points are corners of the hull, and `pdist` compares every pair.
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max(initial=0.0))


def diameter_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> float:
    """Return the largest diameter of a boolean mask in two or three dimensions, in mm; 0 for an empty mask.

    It is measured from surface to surface, but is at least the largest distance between centres of the mask's voxels.
    Balls keep their diameter when they are smoothed, but real tumors would lose up to 15 % with their protrusions.
    """
    outermost = voxel_centres_mm(surface(mask), spacing_mm)
    points = np.concatenate([surface_points_mm(mask, spacing_mm), outermost])
    return largest_diameter_mm(points)


def axial_diameter_mm(mask: MaskArray, spacing_mm: Triple) -> float:
    """Return the largest diameter within one axial slice, in mm; 0 for an empty mask."""
    return max((diameter_mm(plane, spacing_mm[1:]) for plane in mask if plane.any()), default=0.0)
