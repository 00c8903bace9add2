"""The outline of one kidney with its tumor, from where the atlases expect it to what the scan shows there.

Soft tissue is divided by flooding: the kidney and its neighbours are marked where both are certain, and what lies
between goes to the one it is joined to more broadly (marker-controlled watershed of the depth below the surface of
soft tissue: Beucher and Meyer, 1993). A tumor is joined to its kidney and otherwise surrounded by fat; how it
enhances does not matter. All of it is reconstruction.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.data.cases.sides import Box
from renalnet.data.images.resampling import regrid_image, shape_of, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.vote import Consensus
from renalnet.types import FloatArray, MaskArray

SPACING_MM: Final = 3.0
REACH_MM: Final = 75.0
"""How far beyond the expected kidney its tumor is followed."""
FAT_HU: Final = -100.0
_NO_FAT_HU: Final = -40.0
_SOFT_HU: Final = -5.0
_GAS_HU: Final = -300.0
_BONE_HU: Final = 330.0
_ENHANCED_HU: Final = 90.0
_CORE_SHARE: Final = 0.6
_ALIKE_HU: Final = (-25.0, 200.0)
_ALIKE_MM: Final = 30.0
_MOST_GROWTH: Final = 2.0
_NEIGHBOUR_SHARE: Final = 0.5
_NEIGHBOUR_MM: Final = 25.0
_NEIGHBOUR_DEPTH_MM: Final = 4.5
_BOWEL_MM: Final = 15.0
_REMOTE_MM: Final = 60.0
_TAIL_SHARE: Final = 0.2
_POLE_MM: Final = 9.0
_KIDNEY, _NEIGHBOUR = 1, 2


@dataclass(frozen=True)
class Region:
    """The surroundings of one kidney, (z, y, x)."""

    grid: Grid
    hu: FloatArray
    """Smoothed CT numbers."""
    kidney: FloatArray
    """The atlases' probability of the kidney, relative to its maximum."""
    other: FloatArray
    """The atlases' probability of other soft tissue."""
    distance_mm: FloatArray
    """From the expected kidney."""


def cut_region(image: Volume, coarse: Grid, consensus: Consensus) -> Region:
    """The part of a scan within `REACH_MM` of the kidney that the consensus, on the grid `coarse`, expects."""
    expected = Box.around(consensus.kidney >= 0.5 * consensus.kidney.max(), coarse)
    assert expected is not None  # the maximum is among its voxels
    grid = _grid_over(expected.grown(REACH_MM), image.grid)
    hu = regrid_image(image, grid, float(image.array.min())).array.astype(np.float32)
    kidney, other = (
        regrid_image(Volume(share, coarse), grid, 0.0).array for share in (consensus.kidney, consensus.other)
    )
    kidney = kidney / kidney.max()
    distance = ndimage.distance_transform_edt(kidney < 0.5, sampling=SPACING_MM).astype(np.float32)
    return Region(grid, np.asarray(ndimage.gaussian_filter(hu, 0.6)), kidney, other, distance)


@dataclass(frozen=True)
class Outline:
    """A kidney with its tumor, (z, y, x) on the region's grid."""

    kidney: MaskArray
    """Empty where no soft tissue is where one should be."""
    with_tails: MaskArray
    """The kidney, and thin ends of it that may be tumor or a leak."""


def outline_kidney(region: Region) -> Outline:
    """The kidney and its tumor in a region."""
    core = (region.kidney >= _CORE_SHARE) & (region.hu > _NO_FAT_HU)
    if not core.any():
        return Outline(core, core)
    kidney_hu = float(np.median(region.hu[core]))
    soft = region.hu > min(_SOFT_HU, (kidney_hu + FAT_HU) / 2)
    sure = core & soft
    core = _enhancing(region, sure, kidney_hu) if kidney_hu > _ENHANCED_HU else sure
    depth = ndimage.distance_transform_edt(soft, sampling=SPACING_MM).astype(np.float32)
    flooded = _flood(depth, core, _neighbours(region, soft, core, depth)) & soft
    # Without what is thin: vessels, fasciae, and the sheets of muscle that a leak runs along.
    with_tails = _joined(ndimage.binary_opening(flooded, iterations=3) | core, core)
    return Outline(_without_tails(with_tails, sure), with_tails)


def _without_tails(mask: MaskArray, sure: MaskArray) -> MaskArray:
    """The mask without ends, along any axis, that stay thin for longer than a pole: leaks along bowel or muscle.

    What is `sure`, a part of the mask, stays: beside a large leak the kidney itself may be thin.
    """
    kept = mask.copy()
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        first, last = _thick_part(kept.sum(axis=others), np.flatnonzero(sure.any(axis=others)))
        slices = np.moveaxis(kept, axis, 0)
        slices[:first], slices[last + 1 :] = False, False
    return kept


def _thick_part(areas: NDArray[np.int_], sure: NDArray[np.int_]) -> tuple[int, int]:
    """First and last slice to keep of a mask's areas: all `sure` slices; what is thin at an end is kept if short."""
    filled, thick = np.flatnonzero(areas), np.flatnonzero(areas >= _TAIL_SHARE * areas.max())
    longest = round(_POLE_MM / SPACING_MM)
    first = thick[0] if thick[0] - filled[0] > longest else filled[0]
    last = thick[-1] if filled[-1] - thick[-1] > longest else filled[-1]
    return int(min(first, sure[0])), int(max(last, sure[-1]))


def _enhancing(region: Region, core: MaskArray, kidney_hu: float) -> MaskArray:
    """The core, and what near it enhances as much."""
    low, high = np.add(_ALIKE_HU, kidney_hu)
    alike = (region.hu > low) & (region.hu < high) & (region.distance_mm < _ALIKE_MM)
    grown = _joined(ndimage.binary_opening(alike, iterations=2) | core, core)
    leaked = np.count_nonzero(grown) > _MOST_GROWTH * np.count_nonzero(region.kidney >= 0.5)
    return core if leaked else grown


def _neighbours(region: Region, soft: MaskArray, core: MaskArray, depth: FloatArray) -> MaskArray:
    """What surely belongs to other organs: remote, bone, around gas, or expected by the atlases and not alone.

    A tumor may lie where the atlases have other organs. It is told from these by standing alone: these go on
    beyond the reach of a tumor.
    """
    apart = (depth > _NEIGHBOUR_DEPTH_MM) & ~ndimage.binary_dilation(core)
    parts, count = ndimage.label(apart)
    goes_on = ndimage.maximum(region.distance_mm, parts, np.arange(count + 1)) >= _REMOTE_MM
    goes_on[0] = False
    expected = (region.kidney <= 0.02) & (region.other >= _NEIGHBOUR_SHARE) & (region.distance_mm > _NEIGHBOUR_MM)
    from_gas = ndimage.distance_transform_edt(region.hu >= _GAS_HU, sampling=SPACING_MM)
    bowel = (from_gas <= _BOWEL_MM) & (region.distance_mm > _BOWEL_MM)
    bone = (region.hu > _BONE_HU) & (region.kidney <= 0.02)
    remote = region.distance_mm > REACH_MM - 5
    return np.asarray(soft & ((expected & goes_on[parts]) | bowel | bone | remote) & ~core)


def _flood(depth: FloatArray, core: MaskArray, neighbours: MaskArray) -> MaskArray:
    """The kidney's part of the division of soft tissue of a given depth in mm."""
    import SimpleITK as sitk

    markers = np.where(core, _KIDNEY, np.where(neighbours, _NEIGHBOUR, 0)).astype(np.uint8)
    level = np.rint(10 * (depth.max() - depth)).astype(np.uint16)
    basins = sitk.MorphologicalWatershedFromMarkers(
        *map(sitk.GetImageFromArray, (level, markers)), markWatershedLine=False, fullyConnected=False
    )
    return np.asarray(sitk.GetArrayFromImage(basins) == _KIDNEY)


def _joined(mask: MaskArray, core: MaskArray) -> MaskArray:
    """The parts of a mask that touch the core."""
    parts, count = ndimage.label(mask)
    kept = np.zeros(count + 1, bool)
    kept[parts[core]] = True
    kept[0] = False
    return np.asarray(kept[parts])


def _grid_over(box: Box, scan: Grid) -> Grid:
    """An isotropic grid over what of a box lies within the scan; at least one voxel."""
    low = np.array(scan.origin_mm) - np.array(scan.spacing_mm) / 2
    high = low + np.multiply(scan.shape, scan.spacing_mm)
    low = np.clip(box.low_mm, low, high - SPACING_MM)
    shape = np.maximum(np.rint((np.clip(box.high_mm, low, high) - low) / SPACING_MM), 1)
    return Grid.axis_aligned(shape_of(shape), (SPACING_MM,) * 3, triple_of(low + SPACING_MM / 2))
