"""Surfaces of the labels for the page's view in three dimensions, as in the paper's Fig. 4."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.config import LabelSet
from renalnet.evaluation.surface import bounding_box
from renalnet.types import LabelArray, MaskArray, Triple
from study.records.content import View

_NUM_TRIANGLES: Final = 2500
"""Approximate number per body; a page turns as many smoothly without a GPU."""
_MAX_COORDINATE: Final = 2**16 - 1
"""Coordinate of the far end of the longest side of the ROI; coordinates are uint16."""
_TRIANGLES_PER_SQUARE: Final = 2.8
"""Number of triangles that marching cubes make per square of the grid's spacing."""
_STAIRS: Final = 1.5
"""Area of voxel faces divided by the area of the surface that they follow: the mean of |x| + |y| + |z| over directions.
"""


@dataclass(frozen=True)
class Body:
    """The triangles of one label."""

    name: str
    """Name of the label."""
    corners: str
    """Base64 of little-endian uint16 (n, 3) as x, y, z; the largest value is the length of the ROI's longest side."""
    triangles: str
    """Base64 of little-endian uint16 (m, 3): indices of corners, from 0."""


@dataclass(frozen=True)
class Surfaces:
    """The bodies of a case by the truth and by one network."""

    case: str
    extent_mm: tuple[float, float, float]
    """Size of the ROI along x, y and z."""
    truth: list[Body]
    prediction: list[Body]

    @property
    def num_bytes(self) -> int:
        """Number of bytes that the case adds to the page."""
        return sum(len(body.corners) + len(body.triangles) for body in (*self.truth, *self.prediction))


def surfaces_of(view: View, network: str, labels: LabelSet) -> Surfaces:
    """Return the surfaces of a test case; the prediction has no bodies where the network has no mask."""
    z, y, x = (float(length) for length in np.multiply(view.image.shape, view.spacing_mm))
    prediction = view.predictions.get(network)
    return Surfaces(
        case=view.case,
        extent_mm=(x, y, z),
        truth=list(_bodies(view.truth, view.spacing_mm, labels)),
        prediction=[] if prediction is None else list(_bodies(prediction, view.spacing_mm, labels)),
    )


def _bodies(mask: LabelArray, spacing_mm: Triple, labels: LabelSet) -> Iterator[Body]:
    longest_mm = float(np.multiply(mask.shape, spacing_mm).max())
    for label in labels.labels:
        inside = mask == label.value
        if inside.any():
            corners_mm, triangles = smooth_surface(inside, spacing_mm)
            # The page has one scale for all axes. A surface at the border may lie slightly outside the ROI, where
            # uint16 would wrap around.
            coordinates = np.clip(np.rint(corners_mm[:, ::-1] / longest_mm * _MAX_COORDINATE), 0, _MAX_COORDINATE)
            yield Body(label.name, _base64(coordinates), _base64(triangles))


def smooth_surface(mask: MaskArray, spacing_mm: Triple) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return corners (n, 3) and triangles (m, 3) of the surface of a mask, for display and not for measures.

    The mask is smoothed and sampled on a grid that gives about 2500 triangles, then marching cubes (Lorensen and
    Cline, 1987) find its surface. Corners are in mm (z, y, x) from the outer corner of the volume.

    Args:
        mask: boolean (z, y, x), not empty.
        spacing_mm: voxel spacing (z, y, x).
    """
    from skimage.measure import marching_cubes

    box = bounding_box(mask)
    # The box is tight; with a border of 0 its outer faces count as well, and there is room to smooth.
    inner = np.pad(mask[box], 1)
    sampled, sampled_spacing_mm = _sampled(inner, spacing_mm, _wanted_spacing_mm(inner, spacing_mm))
    level = min(0.5, 0.5 * float(sampled.max()))  # a body thinner than the spacing is drawn as well
    corners, triangles, _, _ = marching_cubes(sampled, level)  # type: ignore[no-untyped-call]
    first_mm = np.multiply([span.start - 1 for span in box], spacing_mm)
    # Minus the border that `_sampled` adds, plus half a cell, because samples lie in the middle of their cells.
    corners_mm = first_mm + (corners - 1 + 0.5) * sampled_spacing_mm
    return np.asarray(corners_mm, dtype=np.float64), np.asarray(triangles, dtype=np.int32)


def _wanted_spacing_mm(mask: MaskArray, spacing_mm: Triple) -> float:
    """Return the grid spacing at which the surface has about `_NUM_TRIANGLES`, at least that of the mask."""
    voxel_mm3 = float(np.prod(spacing_mm))
    faces_mm2 = sum(
        float(np.count_nonzero(np.diff(mask, axis=axis))) * voxel_mm3 / spacing_mm[axis] for axis in range(mask.ndim)
    )
    return max(min(spacing_mm), float(np.sqrt(_TRIANGLES_PER_SQUARE * faces_mm2 / _STAIRS / _NUM_TRIANGLES)))


def _sampled(mask: MaskArray, spacing_mm: Triple, wanted_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the smoothed mask on a grid of about the wanted spacing, with a border of 0, and its exact spacing."""
    # Half the new spacing removes what the coarser grid could not show.
    sigma = np.divide(wanted_mm / 2, spacing_mm)
    # The filter mirrors the volume at its ends; a further border of 0 keeps the mirrored body away.
    soft = ndimage.gaussian_filter(np.pad(mask.astype(np.float32), 1), sigma)[1:-1, 1:-1, 1:-1]
    counts = np.maximum(2, np.rint(np.multiply(mask.shape, spacing_mm) / wanted_mm)).astype(int)
    exact_mm = np.multiply(mask.shape, spacing_mm) / counts
    # The middles of equal cells that fill the mask exactly, in indices of its voxels.
    places = np.meshgrid(
        *((np.arange(n) + 0.5) * size / n - 0.5 for n, size in zip(counts, mask.shape, strict=True)), indexing="ij"
    )
    sampled = ndimage.map_coordinates(soft, places, order=1, mode="nearest")
    return np.pad(sampled, 1), exact_mm


def _base64(values: NDArray[np.generic]) -> str:
    # About 2500 triangles have about half as many corners, so their indices fit 16 bits.
    return base64.b64encode(values.astype("<u2").tobytes()).decode()
