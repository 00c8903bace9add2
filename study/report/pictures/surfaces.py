"""Surfaces of kidney and tumor for the page's view in three dimensions, as in the paper's Fig. 4."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.evaluation.surface import bounding_box
from renalnet.types import KIDNEY, TUMOR, LabelArray, MaskArray, Triple
from study.records.content import View

_BODIES: Final = {"kidney": KIDNEY, "tumor": TUMOR}
_NUM_TRIANGLES: Final = 2500
"""About as many a body: what a page turns smoothly without a GPU."""
_STEPS: Final = 2**16 - 1
"""A coordinate is one of so many steps along the longest side of the patient's region."""
_TRIANGLES_A_SQUARE: Final = 2.8
"""Of the step, which marching cubes make."""
_STAIRS: Final = 1.5
"""How much larger the faces of voxels are than the surface that they follow, on average over directions."""


@dataclass(frozen=True)
class Body:
    """Triangles of one body: corners as uint16 (x, y, z) along the region's longest side, and three of them each."""

    name: str
    corners: str
    """Base64 of little-endian uint16."""
    triangles: str
    """Base64 of little-endian uint16, from 0."""


@dataclass(frozen=True)
class Surfaces:
    """A patient's bodies by the truth and by one network."""

    case: str
    extent_mm: tuple[float, float, float]
    """Of the region along x, y and z."""
    truth: list[Body]
    prediction: list[Body]

    @property
    def num_bytes(self) -> int:
        """What it adds to the page."""
        return sum(len(body.corners) + len(body.triangles) for body in (*self.truth, *self.prediction))


def surfaces_of(view: View, network: str) -> Surfaces:
    """Of a test patient by the truth and by a network, for whom nothing is drawn where it has no labels."""
    z, y, x = (float(length) for length in np.multiply(view.image.shape, view.spacing_mm))
    prediction = view.predictions.get(network)
    return Surfaces(
        case=view.case,
        extent_mm=(x, y, z),
        truth=list(_bodies(view.truth, view.spacing_mm)),
        prediction=[] if prediction is None else list(_bodies(prediction, view.spacing_mm)),
    )


def _bodies(labels: LabelArray, spacing_mm: Triple) -> Iterator[Body]:
    longest_mm = float(np.multiply(labels.shape, spacing_mm).max())
    for name, label in _BODIES.items():
        mask = labels == label
        if mask.any():
            corners_mm, triangles = smooth_surface(mask, spacing_mm)
            steps = np.clip(np.rint(corners_mm[:, ::-1] / longest_mm * _STEPS), 0, _STEPS)
            yield Body(name, _base64(steps), _base64(triangles))


def smooth_surface(mask: MaskArray, spacing_mm: Triple) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Corners (n, 3), in mm (z, y, x) from the volume's outer corner, and triangles (m, 3) of a mask that is not empty.

    Marching cubes (Lorensen and Cline, 1987) on the mask smoothed and sampled at a step that gives about 2500
    triangles: for the eye, not for measures.
    """
    from skimage.measure import marching_cubes

    box = bounding_box(mask)
    inner = np.pad(mask[box], 1)
    step_mm = _step_mm(inner, spacing_mm)
    sampled, steps_mm = _sampled(inner, spacing_mm, step_mm)
    level = min(0.5, 0.5 * float(sampled.max()))  # a body thinner than a step is drawn nonetheless
    corners, triangles, _, _ = marching_cubes(sampled, level)  # type: ignore[no-untyped-call]
    first_mm = np.multiply([span.start - 1 for span in box], spacing_mm)
    corners_mm = first_mm + (corners - 1 + 0.5) * steps_mm
    return np.asarray(corners_mm, dtype=np.float64), np.asarray(triangles, dtype=np.int32)


def _step_mm(mask: MaskArray, spacing_mm: Triple) -> float:
    """At which the surface has about as many triangles as it may."""
    voxel_mm3 = float(np.prod(spacing_mm))
    faces_mm2 = sum(
        float(np.count_nonzero(np.diff(mask, axis=axis))) * voxel_mm3 / spacing_mm[axis] for axis in range(mask.ndim)
    )
    return max(min(spacing_mm), float(np.sqrt(_TRIANGLES_A_SQUARE * faces_mm2 / _STAIRS / _NUM_TRIANGLES)))


def _sampled(mask: MaskArray, spacing_mm: Triple, step_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The smoothed mask on a grid of about the step, with a border of nothing, and its exact steps in mm."""
    sigma = np.divide(step_mm / 2, spacing_mm)
    soft = ndimage.gaussian_filter(np.pad(mask.astype(np.float32), 1), sigma)[1:-1, 1:-1, 1:-1]
    counts = np.maximum(2, np.rint(np.multiply(mask.shape, spacing_mm) / step_mm)).astype(int)
    steps_mm = np.multiply(mask.shape, spacing_mm) / counts
    places = np.meshgrid(
        *((np.arange(n) + 0.5) * size / n - 0.5 for n, size in zip(counts, mask.shape, strict=True)), indexing="ij"
    )
    sampled = ndimage.map_coordinates(soft, places, order=1, mode="nearest")
    return np.pad(sampled, 1), steps_mm


def _base64(values: NDArray[np.generic]) -> str:
    return base64.b64encode(values.astype("<u2").tobytes()).decode()
