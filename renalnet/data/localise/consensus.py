"""The consensus of the atlases on where a scan's kidneys are.

All atlases are placed on the scan together, and then each of their kidneys separately. The placement tries every shift
and a few sizes. It therefore needs no initial position and works for any part of the body. Kidneys move relative to
the spine from patient to patient, which is why each kidney is searched again locally.
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

COMPARED_HU_RANGE: Final = (-160.0, 100.0)
"""Intensities that are compared, from fat to soft tissue. Contrast agent, bone and gas would dominate a wider range."""
SOFT_HU: Final = -20
"""Atlas voxels above this CT number are soft tissue or bone."""
SIZES: Final = (0.9, 1.0, 1.1)
"""In-plane magnifications at which an atlas is tried."""
SURROUNDINGS_MM: Final = (36.0, 36.0, 30.0)
"""Margin around both kidneys of an atlas, (z, y, x), that is compared with the scan to place the atlas."""
HALO_MM: Final = 12.0
"""Margin around one kidney that is compared with the scan to place this kidney."""
REACH_MM: Final = 30.0
"""Largest distance between a kidney's position and the one expected from the whole atlas."""
NUM_PLACES: Final = 4
"""Number of places at which the atlases may be tried."""
_MIN_SHARE: Final = 0.5
"""Smallest share of the surroundings that must be within the scan. A scan may end at the kidneys."""
_MIN_KIDNEY_SHARE: Final = 0.5
"""Smallest share of a kidney with its halo that must be within the scan."""
_WEIGHT_WIDTH: Final = 0.1
"""Difference in correlation by which the weight of a kidney drops to 1/e."""
_REMOTENESS: Final = 0.1
"""Correlation that a kidney loses at `REACH_MM` from its expected position."""
_PLACE_LEEWAY: Final = 2
"""Largest distance between the place of one atlas and that of all, in voxels of half the resolution."""
_PEAK_DISTANCE: Final = 3
"""Smallest distance along each axis between two places to try, in voxels of half the resolution."""
_KIDNEY_LEEWAY: Final = 1
"""Largest distance between the place of one kidney and that of all, in voxels."""

Indices: TypeAlias = NDArray[np.int_]
"""Three indices (z, y, x)."""


@dataclass(frozen=True)
class Consensus:
    """The atlases' expectation of one side's kidney, on the scan's low-resolution grid (z, y, x)."""

    kidney: FloatArray
    """Probability that a voxel belongs to this kidney or its tumor."""
    other: FloatArray
    """Probability that a voxel is other soft tissue or bone."""
    similarity: float
    """Mean correlation of intensities in and around the placed kidneys, -1 to 1."""


@dataclass(frozen=True)
class _Match:
    """An atlas at one size, and its correlation with a scan for every place of a reference point."""

    image: FloatArray
    sides: NDArray[np.uint8]
    point: Indices
    """Reference point, as a voxel of the atlas."""
    correlation: FloatArray
    """Correlation for each place of the point (z, y, x), or 0 where too little of the atlas is within the scan."""

    def best_near(self, place: Indices, leeway: int) -> tuple[Indices, float]:
        """Return the best place within `leeway` voxels of `place`, and its correlation."""
        # -1 is the lowest correlation, so no place outside the array is chosen.
        nearby = cut_or_pad(self.correlation, place - leeway, np.full(3, 2 * leeway + 1), -1.0)
        best = _peak(nearby)
        return place - leeway + best, float(nearby[tuple(best)])


@dataclass(frozen=True)
class _PlacedKidney:
    """One kidney of an atlas, placed on the scan's grid (z, y, x)."""

    own: FloatArray
    """1 in the kidney, 0 elsewhere."""
    other: FloatArray
    """1 in other soft tissue and bone of the atlas, 0 elsewhere."""
    correlation: float


def consensus_by_place(scan: NDArray[np.int16], atlases: Sequence[Atlas]) -> Iterator[dict[Side, Consensus]]:
    """Yield the consensus of the atlases for each plausible place, from the most to the least plausible one.

    A scan that shows only a part of the body may resemble the atlases at several places.

    Args:
        scan: HU (z, y, x) at the atlases' spacing.
        atlases: one or more atlases of the same spacing. Atlases without kidneys are ignored.

    Yields:
        The consensus for each side on which some atlas has a kidney.
    """
    spacing_mm = np.array(atlases[0].image.grid.spacing_mm)
    comparable = _comparable(scan)
    halved = _halved(comparable)
    margin = np.rint(np.divide(SURROUNDINGS_MM, spacing_mm)).astype(int)
    matches = [sizes for atlas in atlases if (sizes := _match_sizes(halved, atlas, margin))]
    if not matches:
        return
    # On a real unenhanced CT, the best places of single atlases were up to 118 mm apart along z. Those near the maximum
    # of the mean correlation were within 14 mm.
    mean = np.mean([np.max([match.correlation for match in sizes], axis=0) for sizes in matches], axis=0)
    for place in _peaks(mean, NUM_PLACES, _PEAK_DISTANCE):
        placed = [_best_size(sizes, place) for sizes in matches]
        kidneys = {side: _place_kidneys(comparable, placed, side, spacing_mm) for side in SIDES}
        yield {side: _weighted_mean(found) for side, found in kidneys.items() if found}


def _best_size(sizes: Sequence[_Match], place: Indices) -> tuple[_Match, Indices]:
    """Return an atlas at its best size near a place of half the resolution, and its offset on the scan in voxels."""
    near = [match.best_near(place, _PLACE_LEEWAY) for match in sizes]
    best = int(np.argmax([correlation for _, correlation in near]))
    return sizes[best], 2 * near[best][0] - sizes[best].point


def _match_sizes(halved: FloatArray, atlas: Atlas, margin: Indices) -> list[_Match]:
    """Match an atlas with a scan of half the resolution at each size at which a voxel of a kidney remains."""
    image = _comparable(atlas.image.array)
    return [
        # In-plane only, because patients differ most in the width of the body.
        _match(halved, ndimage.zoom(image, (1, size, size), order=1), sides, margin)
        for size in SIZES
        if (sides := ndimage.zoom(atlas.sides.array, (1, size, size), order=0)).any()
    ]


def _match(halved: FloatArray, image: FloatArray, sides: NDArray[np.uint8], margin: Indices) -> _Match:
    """Match both kidneys and their surroundings with a scan of half the resolution, at every place of their centre."""
    box = _bounding_box(sides > 0, margin)
    start = np.array([part.start for part in box])
    template = _halved(image[box])
    # The scan is padded by the template's size, so that the template may extend beyond the scan on any side.
    room = np.array(template.shape)
    padded = cut_or_pad(halved, -room, halved.shape + 2 * room, np.nan)
    correlation = correlations(padded, template, _MIN_SHARE).astype(np.float32)
    # Both resolutions must refer to one voxel, so the centre is rounded to the voxels of half the resolution.
    point = (_centre(sides > 0) - start) // 2
    return _Match(image, sides, 2 * point + start, cut_or_pad(correlation, room - point, np.array(halved.shape), 0.0))


def _place_kidneys(
    scan: FloatArray, placed: Sequence[tuple[_Match, Indices]], side: Side, spacing_mm: FloatArray
) -> list[_PlacedKidney]:
    """Place one side's kidney of each atlas near the place that suits all of them.

    The search is centred on the median of the places that the whole atlases give. The list is empty if no atlas has a
    kidney on that side.
    """
    value = SIDE_VALUES[side]
    reach = np.rint(REACH_MM / spacing_mm).astype(int)
    placed = [atlas for atlas in placed if (atlas[0].sides == value).any()]
    if not placed:
        return []
    centres = [_centre(atlas.sides == value) + offset for atlas, offset in placed]
    # A single atlas that is placed badly does not move the median.
    expected = np.rint(np.median(centres, axis=0)).astype(int)
    matches = [_match_kidney(scan, atlas, value, expected - reach, reach, spacing_mm) for atlas, _ in placed]
    # Local searches tend to run off to the colon, hence the penalty for remote places.
    penalty = _REMOTENESS * _squared_distance(2 * reach + 1)
    place = _peak(np.mean([match.correlation for match in matches], axis=0) - penalty)
    first = expected - reach
    return [_placed(scan.shape, match, value, match.best_near(place, _KIDNEY_LEEWAY), first) for match in matches]


def _match_kidney(
    scan: FloatArray, atlas: _Match, value: int, first: Indices, reach: Indices, spacing_mm: FloatArray
) -> _Match:
    """Match a kidney and its halo with the scan, with its centre at each of `2 * reach + 1` voxels from `first`."""
    mask = atlas.sides == value
    near = ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= HALO_MM
    box = _bounding_box(near, np.zeros(3, int))
    centre = _centre(mask)
    template = np.where(near[box], atlas.image[box], np.float32(np.nan))
    start = first - centre + [part.start for part in box]
    searched = cut_or_pad(scan, start, template.shape + 2 * reach, np.nan)
    correlation = correlations(searched, template, _MIN_KIDNEY_SHARE).astype(np.float32)
    return _Match(atlas.image, atlas.sides, centre, correlation)


def _placed(
    shape: tuple[int, ...], match: _Match, value: int, best: tuple[Indices, float], first: Indices
) -> _PlacedKidney:
    """Return a kidney on the scan's grid, with its centre at the best place, counted from the scan's voxel `first`."""
    place, correlation = best
    start = match.point - first - place
    own = match.sides == value
    other = (match.image > SOFT_HU) & ~own
    layers = [cut_or_pad(layer.astype(np.float32), start, np.array(shape), 0.0) for layer in (own, other)]
    return _PlacedKidney(layers[0], layers[1], correlation)


def _weighted_mean(kidneys: Sequence[_PlacedKidney]) -> Consensus:
    """Average the kidneys, with larger weights for those with a higher correlation."""
    # A softmax of the correlations: an atlas that matches badly has little influence.
    correlation = np.array([kidney.correlation for kidney in kidneys])
    weights = np.exp((correlation - correlation.max()) / _WEIGHT_WIDTH)
    weights = (weights / weights.sum()).astype(np.float32)
    own = np.tensordot(weights, np.stack([kidney.own for kidney in kidneys]), axes=1)
    other = np.tensordot(weights, np.stack([kidney.other for kidney in kidneys]), axes=1)
    return Consensus(own, other, float(weights @ correlation))


def _halved(array: FloatArray) -> FloatArray:
    """Return the means of blocks of 2×2×2 voxels. Whole atlases are placed at this resolution, which is faster."""
    even = np.pad(array, [(0, size % 2) for size in array.shape], mode="edge")
    z, y, x = (size // 2 for size in even.shape)
    return np.asarray(even.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5)))


def _squared_distance(shape: Indices) -> FloatArray:
    """Return the squared distance from the centre of an array, which is 1 at the centre of each face."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    return np.asarray(np.sum(np.square(axes), axis=0))


def _peaks(values: FloatArray, count: int, distance: int) -> Iterator[Indices]:
    """Yield the places of the highest positive values, none within `distance` voxels of a higher one on every axis."""
    left = values.copy()
    for _ in range(count):
        place = _peak(left)
        if left[tuple(place)] <= 0:
            return
        yield place
        left[tuple(slice(max(index - distance, 0), index + distance + 1) for index in place)] = 0


def _peak(values: FloatArray) -> Indices:
    return np.array(np.unravel_index(int(values.argmax()), values.shape))


def _centre(mask: MaskArray) -> Indices:
    """Return the voxel at a mask's centroid."""
    return np.rint(ndimage.center_of_mass(mask)).astype(int)


def _comparable(hu: NDArray[np.int16]) -> FloatArray:
    return np.clip(hu, *COMPARED_HU_RANGE).astype(np.float32)


def _bounding_box(mask: MaskArray, margin: Indices) -> tuple[slice, slice, slice]:
    """Return the box of a mask's voxels with a margin, clipped to the array."""
    z, y, x = (
        slice(max(part.start - m, 0), part.stop + m)
        for part, m in zip(ndimage.find_objects(mask.astype(np.uint8))[0], margin, strict=True)
    )
    return z, y, x
