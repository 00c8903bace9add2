"""Distances between the surfaces of two masks: computed once, read by several reducers.

A surface voxel is a voxel of the mask with a face neighbour outside the mask or the volume. Distances run
between voxel centres, in mm on the anisotropic grid; with `spacing_mm` (1, 1, 1) they are in pixels.

Empty masks: both empty gives distance 0 and surface Dice 1; one empty gives the diagonal of the volume and
surface Dice 0. Nothing is ever NaN or infinite, so that a mean over patients leaves no one out.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.metrics.overlap import require_same_shape
from renalnet.types import MaskArray, Triple

Backend = Literal["auto", "edt", "scipy"]
DistanceArray = NDArray[np.float64]
Region = tuple[slice, ...]

_ROUNDING_MM = 1e-4
"""edt computes in single precision; without this slack a distance equal to the tolerance could miss it."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distance of each surface voxel of one mask to the nearest surface voxel of the other."""

    truth_to_pred_mm: DistanceArray
    """One a surface voxel of the truth; the volume's diagonal where the prediction is empty."""
    pred_to_truth_mm: DistanceArray
    """One a surface voxel of the prediction; the volume's diagonal where the truth is empty."""

    @property
    def both_empty(self) -> bool:
        """Neither mask has a voxel."""
        return not self.truth_to_pred_mm.size and not self.pred_to_truth_mm.size

    @property
    def one_empty(self) -> bool:
        """Just one of the masks has a voxel."""
        return bool(self.truth_to_pred_mm.size) != bool(self.pred_to_truth_mm.size)

    @property
    def mean_mm(self) -> float:
        """Mean over the surface voxels of both masks together; ≥ 0."""
        return 0.0 if self.both_empty else float(self._pooled().mean())

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles; ≥ 0."""
        directed = (self.truth_to_pred_mm, self.pred_to_truth_mm)
        return max((float(np.percentile(each, 95)) for each in directed if each.size), default=0.0)

    def surface_dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces' voxels within the tolerance, 0 to 1 (after Nikolov et al., 2018)."""
        if self.both_empty:
            return 1.0
        return 0.0 if self.one_empty else float((self._pooled() <= tolerance_mm + _ROUNDING_MM).mean())

    def _pooled(self) -> DistanceArray:
        return np.concatenate([self.truth_to_pred_mm, self.pred_to_truth_mm])


def surface_distances(
    truth: MaskArray, pred: MaskArray, spacing_mm: Triple, *, backend: Backend = "auto"
) -> SurfaceDistances:
    """Distances between the surfaces of two boolean masks (z, y, x) of one shape.

    Args:
        truth: the true mask.
        pred: the predicted mask.
        spacing_mm: (z, y, x); (1, 1, 1) for distances in pixels.
        backend: `edt` is faster than `scipy` and agrees with it to single precision; `auto` takes it where
            it is installed.

    Raises:
        InputError: the shapes differ.
    """
    require_same_shape(truth.shape, pred.shape)
    if not truth.any() or not pred.any():
        return _without_other(truth, pred, diagonal_mm(truth.shape, spacing_mm))
    # Outside the box of both masks there is neither, so that nothing is lost by looking inside it.
    region = bounding_box(truth | pred)
    truth_surface, pred_surface = surface(truth[region]), surface(pred[region])
    return SurfaceDistances(
        _distance_to(pred_surface, spacing_mm, backend)[truth_surface],
        _distance_to(truth_surface, spacing_mm, backend)[pred_surface],
    )


def _without_other(truth: MaskArray, pred: MaskArray, diagonal: float) -> SurfaceDistances:
    num_truth, num_pred = (int(np.count_nonzero(surface(mask))) for mask in (truth, pred))
    return SurfaceDistances(np.full(num_truth, diagonal), np.full(num_pred, diagonal))


def surface(mask: MaskArray) -> MaskArray:
    """The voxels of a mask (z, y, x) with a face neighbour outside the mask or the volume."""
    return mask & ~ndimage.binary_erosion(mask)


def diagonal_mm(shape: tuple[int, ...], spacing_mm: Triple) -> float:
    """Length of the diagonal of a volume, from outer corner to outer corner."""
    return float(np.linalg.norm(np.multiply(shape, spacing_mm)))


def bounding_box(mask: MaskArray) -> Region:
    """The smallest box around a mask that is not empty."""
    return tuple(
        slice(int(found[0]), int(found[-1]) + 1)
        for axis in range(mask.ndim)
        for found in [np.flatnonzero(mask.any(axis=tuple(set(range(mask.ndim)) - {axis})))]
    )


def _distance_to(surface_voxels: MaskArray, spacing_mm: Triple, backend: Backend) -> DistanceArray:
    """Distance (z, y, x) of each voxel to the nearest of `surface_voxels`, which must have one."""
    if backend == "auto":
        backend = "edt" if importlib.util.find_spec("edt") else "scipy"
    if backend == "scipy":
        return ndimage.distance_transform_edt(~surface_voxels, sampling=spacing_mm)
    import edt

    outside = np.ascontiguousarray(~surface_voxels)
    return np.asarray(edt.edt(outside, anisotropy=spacing_mm, parallel=1), dtype=np.float64)
