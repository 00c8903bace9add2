"""Lengths of a mask, from its surface to its surface."""

from contextlib import suppress
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from renalnet.evaluation.surface import bounding_box, surface
from renalnet.types import FloatArray, MaskArray, Triple

Points: TypeAlias = NDArray[np.float64]
"""(n, 3) or (n, 2), in mm from the centre of the volume's first voxel, in the order of the axes."""
_MOST_SMOOTHING: Final = 0.28
"""Of the radius of a ball (or disc) of the mask's size; beyond it the mask would shrink."""
_REACH: Final = 3.0
"""Of a Gaussian, in standard deviations."""


def voxel_centres_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> Points:
    """Of a boolean mask in two or three dimensions, (n, 2) or (n, 3)."""
    return np.asarray(np.argwhere(mask) * np.array(spacing_mm))


def covariance(points: Points) -> Points:
    """Of the coordinates of one point or more, (3, 3)."""
    apart = points - points.mean(axis=0)
    return np.asarray(apart.T @ apart / len(points))


def radius_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> float:
    """Of a ball (or disc) of a boolean mask's size; 0 of an empty one."""
    content = float(mask.sum() * np.prod(spacing_mm))
    return float((3 * content / (4 * np.pi)) ** (1 / 3) if mask.ndim == 3 else (content / np.pi) ** 0.5)


def surface_points_mm(mask: MaskArray, spacing_mm: tuple[float, ...], *, smoothing: float = 3.0) -> Points:
    """Points of the surface of a boolean mask, in two or three dimensions; none of an empty one.

    The signed distance to the surface (shape-based interpolation: Raya and Udupa, 1990) is smoothed, less where the
    mask is small, and interpolated along axes of coarse spacing: so that the stairs of thick slices and the single
    voxels at the ends do not lengthen what is measured between the farthest points.

    Args:
        mask: the body.
        spacing_mm: of its voxels.
        smoothing: standard deviation of the Gaussian, the same in all directions, in voxels along the axis of finest
            spacing.
    """
    import edt

    if not mask.any():
        return np.empty((0, mask.ndim))
    box = bounding_box(mask)
    smoothing_mm = min(smoothing * min(spacing_mm), _MOST_SMOOTHING * radius_mm(mask, spacing_mm))
    deviation = np.divide(smoothing_mm, spacing_mm)
    margin = 1 + np.ceil(_REACH * deviation).astype(int)
    padded = np.pad(mask[box], [(width, width) for width in margin])
    distance_mm = edt.edt(padded, anisotropy=spacing_mm) - edt.edt(~padded, anisotropy=spacing_mm)
    soft = ndimage.gaussian_filter(distance_mm, deviation, truncate=_REACH)
    fineness = np.maximum(1, np.rint(np.divide(spacing_mm, min(spacing_mm)))).astype(int)
    steps = [np.arange((size - 1) * fine + 1) / fine for size, fine in zip(soft.shape, fineness, strict=True)]
    fine = ndimage.map_coordinates(soft, np.meshgrid(*steps, indexing="ij"), order=1)
    found = [_crossings(fine, axis) for axis in range(mask.ndim)]
    first = [place.start for place in box] - margin
    return np.asarray((np.concatenate(found) / fineness + first) * np.array(spacing_mm))


def _crossings(distance_mm: FloatArray, axis: int) -> Points:
    """Where the distance changes its sign between neighbours along an axis, in voxels."""
    here, there = (np.take(distance_mm, range(first, distance_mm.shape[axis] - 1 + first), axis) for first in (0, 1))
    places = np.argwhere((here >= 0) != (there >= 0))
    low, high = (values[tuple(places.T)] for values in (here, there))
    points = places.astype(np.float64)
    points[:, axis] += low / (low - high)
    return points


def largest_diameter_mm(points: Points) -> float:
    """Largest distance between any two points, in mm; 0 of fewer than two."""
    if len(points) < 2:
        return 0.0
    with suppress(QhullError):  # all on a line or a plane: no hull, and few of them
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max(initial=0.0))


def diameter_mm(mask: MaskArray, spacing_mm: tuple[float, ...]) -> float:
    """Largest diameter of a boolean mask in two or three dimensions, in mm; 0 of an empty one.

    From surface to surface, but no less than from centre to centre of the mask's voxels, which lie in the body: balls
    keep their diameter when they are smoothed, while real tumors lose up to 15 % of theirs with what sticks out.
    """
    outermost = voxel_centres_mm(surface(mask), spacing_mm)
    points = np.concatenate([surface_points_mm(mask, spacing_mm), outermost])
    return largest_diameter_mm(points)


def axial_diameter_mm(mask: MaskArray, spacing_mm: Triple) -> float:
    """The largest diameter within one axial slice, in mm; 0 of an empty mask."""
    return max((diameter_mm(plane, spacing_mm[1:]) for plane in mask if plane.any()), default=0.0)
