"""Distances between the surfaces of two masks, computed once and read by several measures.

A surface voxel is a voxel of the mask with a face neighbour outside the mask or the volume. Distances are between voxel
centres, in mm on the anisotropic grid; with `spacing_mm` (1, 1, 1) they are in voxels.

Two empty masks give distance 0 and surface Dice 1. If one is empty, the distance is the diagonal of the volume and
surface Dice 0. No value is NaN or infinite, so a mean over cases includes all of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.overlap import require_same_shape
from renalnet.types import MaskArray, Triple

DistanceArray = NDArray[np.float64]
Region = tuple[slice, ...]

_ROUNDING_MM = 1e-9
"""Added to the tolerance, so that a distance that equals it except for rounding counts as within it."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distance of each surface voxel of one mask to the nearest surface voxel of the other."""

    truth_to_pred_mm: DistanceArray
    """Distance of each surface voxel of the truth (n,); the diagonal of the volume where the prediction is empty."""
    pred_to_truth_mm: DistanceArray
    """Distance of each surface voxel of the prediction (m,); the diagonal of the volume where the truth is empty."""

    @property
    def both_empty(self) -> bool:
        """Whether neither mask has a voxel."""
        return not self.truth_to_pred_mm.size and not self.pred_to_truth_mm.size

    @property
    def one_empty(self) -> bool:
        """Whether exactly one of the masks has a voxel."""
        return bool(self.truth_to_pred_mm.size) != bool(self.pred_to_truth_mm.size)

    @property
    def mean_mm(self) -> float:
        """Mean distance over the surface voxels of both masks together; 0 for two empty masks."""
        return 0.0 if self.both_empty else float(self._pooled().mean())

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles; 0 for two empty masks."""
        directed = (self.truth_to_pred_mm, self.pred_to_truth_mm)
        return max((float(np.percentile(each, 95)) for each in directed if each.size), default=0.0)

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces' voxels within the tolerance, 0 to 1 (after Nikolov et al., 2018)."""
        if self.both_empty:
            return 1.0
        # Voxels are counted. The measure of Nikolov et al. weights them by area, which gives other values.
        return 0.0 if self.one_empty else float((self._pooled() <= tolerance_mm + _ROUNDING_MM).mean())

    def _pooled(self) -> DistanceArray:
        return np.concatenate([self.truth_to_pred_mm, self.pred_to_truth_mm])


@dataclass(frozen=True, eq=False)
class SurfacePair:
    """The surface voxels of two masks, found once for distances in mm and in voxels."""

    truth: NDArray[np.int64]
    """Surface voxels of the true mask (n, 3), counted from the corner of the box around both masks."""
    pred: NDArray[np.int64]
    """Surface voxels of the predicted mask (m, 3), likewise."""
    shape: tuple[int, ...]
    """Shape of the volume (z, y, x)."""

    @classmethod
    def of(cls, truth: MaskArray, pred: MaskArray) -> "SurfacePair":
        """Find the surface voxels of two boolean masks (z, y, x). Raises InputError where the shapes differ."""
        require_same_shape(truth.shape, pred.shape)
        # Outside the box around both masks there is no surface.
        either = truth | pred
        # Two empty masks have no box; an empty slice gives no surface voxels.
        box = bounding_box(either) if either.any() else (slice(0),)
        return cls(np.argwhere(surface(truth[box])), np.argwhere(surface(pred[box])), truth.shape)

    def distances(self, spacing_mm: Triple) -> SurfaceDistances:
        """Return the distances, exact in double precision, for voxels of a spacing (z, y, x).

        The nearest surface voxel is looked up in a k-d tree. That takes half the time of two distance transforms where
        the masks are alike, and several times as long where they are noise.
        """
        if not len(self.truth) or not len(self.pred):
            diagonal = diagonal_mm(self.shape, spacing_mm)
            return SurfaceDistances(np.full(len(self.truth), diagonal), np.full(len(self.pred), diagonal))
        truth_mm = self.truth * np.array(spacing_mm)
        pred_mm = self.pred * np.array(spacing_mm)
        return SurfaceDistances(_nearest_mm(truth_mm, pred_mm), _nearest_mm(pred_mm, truth_mm))


def surface_distances(truth: MaskArray, pred: MaskArray, spacing_mm: Triple) -> SurfaceDistances:
    """Return the distances between the surfaces of two boolean masks.

    Args:
        truth: true mask (z, y, x).
        pred: predicted mask of the same shape.
        spacing_mm: voxel spacing (z, y, x); (1, 1, 1) for distances in voxels.

    Raises:
        InputError: the shapes differ.
    """
    return SurfacePair.of(truth, pred).distances(spacing_mm)


def _nearest_mm(points_mm: DistanceArray, others_mm: DistanceArray) -> DistanceArray:
    from scipy.spatial import KDTree

    # Each tree is queried once, so these options, which build it faster and query it slower, save time.
    distances, _ = KDTree(others_mm, compact_nodes=False, balanced_tree=False).query(points_mm)
    return np.asarray(distances, dtype=np.float64)


def surface(mask: MaskArray) -> MaskArray:
    """Return the voxels of a mask (z, y, x) with a face neighbour outside the mask or the volume."""
    # A copy, because the neighbours must be those of the whole mask on every axis.
    inner = mask.copy()
    for axis in range(mask.ndim):
        along = np.moveaxis(inner, axis, 0)
        whole = np.moveaxis(mask, axis, 0)
        along[1:] &= whole[:-1]
        along[:-1] &= whole[1:]
        along[:1] = along[-1:] = False  # voxels at the border have a neighbour outside the volume
    found: MaskArray = mask & ~inner
    return found


def diagonal_mm(shape: tuple[int, ...], spacing_mm: Triple) -> float:
    """Return the diagonal of a volume, from outer corner to outer corner."""
    # No distance in the volume is larger, so an empty mask never scores better than a misplaced one.
    return float(np.linalg.norm(np.multiply(shape, spacing_mm)))


def bounding_box(mask: MaskArray) -> Region:
    """Return the smallest box around a mask; the mask must not be empty."""
    return tuple(
        slice(int(found[0]), int(found[-1]) + 1)
        for axis in range(mask.ndim)
        for found in [np.flatnonzero(mask.any(axis=tuple(set(range(mask.ndim)) - {axis})))]
    )
