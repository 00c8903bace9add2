"""The atlases' vote on where a scan's kidneys lie: each is placed on the scan, then each of its kidneys by itself.

Placing tries every shift and a few sizes, and so depends neither on a start nor on how much of the patient a scan
shows. Kidneys move against the spine from patient to patient, hence the second, local search of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Side
from renalnet.data.localise.atlas import Atlas
from renalnet.data.localise.correlation import correlations, cut_or_pad
from renalnet.types import FloatArray, MaskArray

HU_RANGE: Final = (-160.0, 100.0)
"""Intensities compared: fat to soft tissue. Beyond it a contrast agent, bone and gas would rule."""
SOFT_HU: Final = -20
SIZES: Final = (0.9, 1.0, 1.1)
"""In-plane sizes at which an atlas is tried."""
SURROUNDINGS_MM: Final = (36.0, 36.0, 30.0)
"""Around both kidneys, (z, y, x): what an atlas is placed by."""
HALO_MM: Final = 12.0
"""Around one kidney: what that kidney is placed by."""
REACH_MM: Final = 30.0
"""How far a kidney is searched from where the whole atlas has it."""
NUM_PLACES: Final = 4
"""Places tried while a kidney is doubtful."""
_LEAST_SHARE: Final = 0.5
_LEAST_KIDNEY_SHARE: Final = 0.5
_WEIGHT_WIDTH: Final = 0.1
_REMOTENESS: Final = 0.1
_PLACE_LEEWAY: Final = 2
_APART: Final = 3
_KIDNEY_LEEWAY: Final = 1

Indices: TypeAlias = NDArray[np.int_]
"""Three indices (z, y, x)."""


@dataclass(frozen=True)
class Consensus:
    """What the atlases say of one side's kidney, on the scan's low-resolution grid (z, y, x)."""

    kidney: FloatArray
    """Probability that a voxel is this kidney, tumor included."""
    other: FloatArray
    """Probability that it is other soft tissue or bone."""
    similarity: float
    """Mean correlation of intensities in and around the placed kidneys, -1 to 1."""


@dataclass(frozen=True)
class _Fit:
    """An atlas at one size, and how well it resembles a scan wherever some point of it may lie."""

    image: FloatArray
    sides: NDArray[np.uint8]
    point: Indices
    """The point of the atlas."""
    correlation: FloatArray
    """For each place of that point (z, y, x); 0 where too little can be compared."""

    def near(self, place: Indices, leeway: int) -> tuple[Indices, float]:
        """The best place within `leeway` voxels of one, and the correlation there."""
        nearby = cut_or_pad(self.correlation, place - leeway, np.full(3, 2 * leeway + 1), -1.0)
        best = _peak(nearby)
        return place - leeway + best, float(nearby[tuple(best)])


@dataclass(frozen=True)
class _Kidney:
    """One kidney of an atlas, laid on the scan."""

    own: FloatArray
    other: FloatArray
    correlation: float


def votes(scan: NDArray[np.int16], atlases: Sequence[Atlas]) -> Iterator[dict[Side, Consensus]]:
    """The consensus on each side that some atlas has a kidney on, once for each place that suits the atlases.

    The likeliest place comes first; what shows part of a body only may suit another as well.

    Args:
        scan: HU (z, y, x) at the atlases' spacing.
        atlases: one or more, of one spacing; one without kidneys does not vote.
    """
    spacing_mm, comparable = np.array(atlases[0].image.grid.spacing_mm), _comparable(scan)
    halved, margin = _halved(comparable), np.rint(np.divide(SURROUNDINGS_MM, spacing_mm)).astype(int)
    fits = [fitting for atlas in atlases if (fitting := _fits_of(halved, atlas, margin))]
    if not fits:
        return
    suiting = np.mean([np.max([fit.correlation for fit in sizes], axis=0) for sizes in fits], axis=0)
    for place in _peaks(suiting, NUM_PLACES, _APART):
        placed = [_best_near(sizes, place) for sizes in fits]
        yield {side: _count(kidneys) for side in SIDES if (kidneys := _lay(comparable, placed, side, spacing_mm))}


def _best_near(sizes: Sequence[_Fit], place: Indices) -> tuple[_Fit, Indices]:
    """An atlas at its best size near a place of the scan of half the resolution, and its offset on the scan."""
    near = [fit.near(place, _PLACE_LEEWAY) for fit in sizes]
    best = int(np.argmax([correlation for _, correlation in near]))
    return sizes[best], 2 * near[best][0] - sizes[best].point


def _fits_of(halved: FloatArray, atlas: Atlas, margin: Indices) -> list[_Fit]:
    """How an atlas fits a scan of half the resolution, at each size at which it shows a kidney."""
    image = _comparable(atlas.image.array)
    return [
        _fit_at(halved, ndimage.zoom(image, (1, size, size), order=1), sides, margin)
        for size in SIZES
        if (sides := ndimage.zoom(atlas.sides.array, (1, size, size), order=0)).any()
    ]


def _fit_at(halved: FloatArray, image: FloatArray, sides: NDArray[np.uint8], margin: Indices) -> _Fit:
    """How kidneys with their surroundings fit a scan of half the resolution, by the middle of the kidneys."""
    box, middle = _around(sides > 0, margin), _middle(sides > 0)
    start = np.array([part.start for part in box])
    template = _halved(image[box])
    room = np.array(template.shape)
    padded = cut_or_pad(halved, -room, halved.shape + 2 * room, np.nan)
    correlation = correlations(padded, template, _LEAST_SHARE).astype(np.float32)
    point = (middle - start) // 2
    return _Fit(image, sides, 2 * point + start, cut_or_pad(correlation, room - point, np.array(halved.shape), 0.0))


def _lay(scan: FloatArray, placed: Sequence[tuple[_Fit, Indices]], side: Side, spacing_mm: FloatArray) -> list[_Kidney]:
    """One side's kidneys, searched around the median of their places: each near the place that suits all.

    None where no atlas has a kidney on that side.
    """
    value, reach = SIDE_VALUES[side], np.rint(REACH_MM / spacing_mm).astype(int)
    placed = [atlas for atlas in placed if (atlas[0].sides == value).any()]
    if not placed:
        return []
    middles = [_middle(atlas.sides == value) + offset for atlas, offset in placed]
    expected = np.rint(np.median(middles, axis=0)).astype(int)
    fits = [_fit_kidney(scan, atlas, value, expected, reach, spacing_mm) for atlas, _ in placed]
    place = _peak(np.mean([fit.correlation for fit in fits], axis=0) - _REMOTENESS * _squared_distance(2 * reach + 1))
    return [_laid(scan.shape, fit, value, *fit.near(place, _KIDNEY_LEEWAY), expected - reach) for fit in fits]


def _fit_kidney(
    scan: FloatArray, atlas: _Fit, value: int, expected: Indices, reach: Indices, spacing_mm: FloatArray
) -> _Fit:
    """How a kidney and its halo fit with its middle up to `reach` voxels from where it is expected."""
    mask = atlas.sides == value
    near = ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= HALO_MM
    box, middle = _around(near, np.zeros(3, int)), _middle(mask)
    template = np.where(near[box], atlas.image[box], np.float32(np.nan))
    start = expected - reach - middle + [part.start for part in box]
    window = cut_or_pad(scan, start, template.shape + 2 * reach, np.nan)
    correlation = correlations(window, template, _LEAST_KIDNEY_SHARE).astype(np.float32)
    return _Fit(atlas.image, atlas.sides, middle, correlation)


def _laid(shape: tuple[int, ...], fit: _Fit, value: int, place: Indices, correlation: float, first: Indices) -> _Kidney:
    """A kidney with its middle at `place`, counted from the scan's voxel `first`."""
    own = fit.sides == value
    other = (fit.image > SOFT_HU) & ~own
    own_there, other_there = (
        cut_or_pad(layer.astype(np.float32), fit.point - first - place, np.array(shape), 0.0) for layer in (own, other)
    )
    return _Kidney(own_there, other_there, correlation)


def _count(kidneys: Sequence[_Kidney]) -> Consensus:
    """Kidneys weighted by how well they resemble the scan."""
    correlation = np.array([kidney.correlation for kidney in kidneys])
    weights = np.exp((correlation - correlation.max()) / _WEIGHT_WIDTH)
    weights = (weights / weights.sum()).astype(np.float32)
    own = np.tensordot(weights, np.stack([kidney.own for kidney in kidneys]), axes=1)
    other = np.tensordot(weights, np.stack([kidney.other for kidney in kidneys]), axes=1)
    return Consensus(own, other, float(weights @ correlation))


def _halved(array: FloatArray) -> FloatArray:
    """Means of blocks of 2×2×2 voxels: an atlas is placed coarsely, its kidneys are then searched finely."""
    even = np.pad(array, [(0, size % 2) for size in array.shape], mode="edge")
    z, y, x = (size // 2 for size in even.shape)
    return np.asarray(even.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5)))


def _squared_distance(shape: Indices) -> FloatArray:
    """From the middle of an array, 1 at the middle of a face."""
    steps = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    return np.asarray(np.sum(np.square(steps), axis=0))


def _peaks(values: FloatArray, count: int, apart: int) -> Iterator[Indices]:
    """The places of the highest positive values, none within `apart` voxels of a higher one along each axis."""
    left = values.copy()
    for _ in range(count):
        place = _peak(left)
        if left[tuple(place)] <= 0:
            return
        yield place
        left[tuple(slice(max(middle - apart, 0), middle + apart + 1) for middle in place)] = 0


def _peak(values: FloatArray) -> Indices:
    return np.array(np.unravel_index(int(values.argmax()), values.shape))


def _middle(mask: MaskArray) -> Indices:
    """The voxel at a mask's centroid."""
    return np.rint(ndimage.center_of_mass(mask)).astype(int)


def _comparable(hu: NDArray[np.int16]) -> FloatArray:
    return np.clip(hu, *HU_RANGE).astype(np.float32)


def _around(mask: MaskArray, margin: Indices) -> tuple[slice, slice, slice]:
    """The box of a mask's voxels and a margin, within the array."""
    z, y, x = (
        slice(max(part.start - m, 0), part.stop + m)
        for part, m in zip(ndimage.find_objects(mask.astype(np.uint8))[0], margin, strict=True)
    )
    return z, y, x
