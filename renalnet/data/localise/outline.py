"""Outline of one kidney with its tumor, from the position that the atlases expect to the extent in the scan.

Voxels that certainly belong to the kidney, and voxels that certainly belong to its neighbours, are markers. A
marker-controlled watershed of the depth below the surface of soft tissue (Beucher and Meyer, 1993) divides the rest.
Each part goes to the marker to which it is connected more broadly. A tumor is connected to its kidney and otherwise
surrounded by fat, so its enhancement does not matter. Opening the soft tissue instead leaked through the whole abdomen.
All of this is reconstruction.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.data.cases.sides import Box
from renalnet.data.images.resampling import regrid_image, shape_of, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.consensus import Consensus
from renalnet.types import FloatArray, MaskArray

SPACING_MM: Final = 3.0
"""Isotropic spacing at which a kidney is outlined."""
REACH_MM: Final = 75.0
"""Largest distance between the expected kidney and the edge of its tumor."""
FAT_HU: Final = -100.0
_SMOOTHING_VOXELS: Final = 0.6
"""Standard deviation of the Gaussian filter that reduces noise before thresholds are applied."""
_MAX_FAT_HU: Final = -40.0
"""Voxels of the expected kidney up to this CT number are fat, such as the renal sinus."""
_SOFT_HU: Final = -5.0
"""Lowest CT number of soft tissue. With 10 HU, small tumors near water at a pole were taken for fat."""
_GAS_HU: Final = -300.0
_BONE_HU: Final = 330.0
_ENHANCED_HU: Final = 90.0
"""Smallest median of a kidney with contrast agent."""
_EXPECTED_SHARE: Final = 0.5
"""Probability, relative to its maximum, at which the atlases expect the surface of the kidney."""
_CORE_SHARE: Final = 0.6
"""Probability, relative to its maximum, of voxels that certainly belong to the kidney if they are not fat."""
_ELSEWHERE_SHARE: Final = 0.02
"""Probability, relative to its maximum, of voxels that the atlases assign to anything but the kidney."""
_ALIKE_HU: Final = (-25.0, 200.0)
"""Difference from the kidney's median of voxels that enhance like it. Cortex is brighter than the median."""
_ALIKE_MM: Final = 30.0
"""Largest distance of these voxels from the expected kidney."""
_MAX_GROWTH: Final = 2.0
"""Largest volume of kidney and similar voxels, relative to the expected kidney. A larger one is a leak."""
_NEIGHBOUR_SHARE: Final = 0.5
"""Smallest probability of other tissue at which a voxel may mark a neighbour."""
_NEIGHBOUR_MM: Final = 25.0
"""Smallest distance of such a voxel from the expected kidney."""
_NEIGHBOUR_DEPTH_MM: Final = 4.5
"""Depth below the surface of soft tissue at which organs that touch are separate."""
_BOWEL_MM: Final = 15.0
"""Distance from gas at which soft tissue is the wall of the bowel."""
_REMOTE_MM: Final = 60.0
"""Distance from the expected kidney that a large organ reaches, and a tumor does not."""
_REGION_EDGE_MM: Final = 5.0
"""Width of the edge of a region, where all soft tissue is taken for neighbours."""
_TAIL_SHARE: Final = 0.2
"""Area of a slice, relative to the largest slice, below which an end is thin."""
_POLE_MM: Final = 9.0
"""Longest thin end that may be the pole of a kidney."""
_KIDNEY: Final = 1
_NEIGHBOUR: Final = 2


@dataclass(frozen=True)
class Region:
    """The surroundings of one kidney, on an isotropic grid of `SPACING_MM`. All arrays are (z, y, x)."""

    grid: Grid
    hu: FloatArray
    """Smoothed CT numbers."""
    kidney: FloatArray
    """Probability of the kidney according to the atlases, relative to its maximum."""
    other: FloatArray
    """Probability of other soft tissue or bone according to the atlases."""
    distance_mm: FloatArray
    """Distance from the expected kidney, 0 inside it."""


def cut_region(image: Volume, coarse: Grid, consensus: Consensus) -> Region:
    """Cut the part of a scan within `REACH_MM` of an expected kidney.

    Args:
        image: canonical int16 HU (z, y, x).
        coarse: grid of the consensus.
        consensus: the atlases' expectation; its kidney must not be empty.
    """
    expected = Box.around(consensus.kidney >= _EXPECTED_SHARE * consensus.kidney.max(), coarse)
    assert expected is not None  # it contains at least the voxel with the maximum
    grid = _grid_over(expected.grown(REACH_MM), image.grid)
    hu = regrid_image(image, grid, float(image.array.min())).array.astype(np.float32)
    kidney = regrid_image(Volume(consensus.kidney, coarse), grid, 0.0).array
    other = regrid_image(Volume(consensus.other, coarse), grid, 0.0).array
    # Interpolation may not reach the maximum of the coarse grid, so this grid's own one is used.
    kidney = kidney / kidney.max()
    distance = ndimage.distance_transform_edt(kidney < _EXPECTED_SHARE, sampling=SPACING_MM).astype(np.float32)
    return Region(grid, np.asarray(ndimage.gaussian_filter(hu, _SMOOTHING_VOXELS)), kidney, other, distance)


@dataclass(frozen=True)
class Outline:
    """A kidney with its tumor, (z, y, x) on the region's grid."""

    kidney: MaskArray
    """Kidney and tumor. It is empty if there is no soft tissue in the core of the expected kidney."""
    with_tails: MaskArray
    """Kidney and tumor, and thin ends of them that may be tumor or a leak."""


def outline_kidney(region: Region) -> Outline:
    """Return the outline of the kidney and its tumor in a region."""
    core = (region.kidney >= _CORE_SHARE) & (region.hu > _MAX_FAT_HU)
    if not core.any():
        return Outline(core, core)
    kidney_hu = float(np.median(region.hu[core]))
    # The surface of the kidney is halfway between its CT number and that of fat, but not above `_SOFT_HU`.
    soft = region.hu > min(_SOFT_HU, (kidney_hu + FAT_HU) / 2)
    sure = core & soft
    core = _with_similar_voxels(region, sure, kidney_hu) if kidney_hu > _ENHANCED_HU else sure
    depth = ndimage.distance_transform_edt(soft, sampling=SPACING_MM).astype(np.float32)
    flooded = _flood(depth, core, _neighbours(region, soft, core, depth)) & soft
    # The opening removes thin structures: vessels, fasciae, and muscles along which the flood leaks.
    # Three iterations at 3 mm remove what is thinner than 21 mm. The core stays, even if the kidney is thin.
    with_tails = _connected(ndimage.binary_opening(flooded, iterations=3) | core, core)
    # `core` may include similar voxels of other organs, so only `sure` must be kept.
    return Outline(_without_tails(with_tails, sure), with_tails)


def _without_tails(mask: MaskArray, sure: MaskArray) -> MaskArray:
    """Return the mask without thin ends, along any axis, that are longer than a pole: leaks along bowel or muscle.

    The part of the mask in `sure` is kept, because the kidney itself may be thin relative to a large leak.
    """
    kept = mask.copy()
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        first, last = _thick_part(kept.sum(axis=others), np.flatnonzero(sure.any(axis=others)))
        slices = np.moveaxis(kept, axis, 0)
        slices[:first] = False
        slices[last + 1 :] = False
    return kept


def _thick_part(areas: NDArray[np.int_], sure: NDArray[np.int_]) -> tuple[int, int]:
    """Return the first and the last slice to keep.

    Args:
        areas: area of the mask in each slice, in voxels.
        sure: indices of the slices that must be kept, in rising order.
    """
    filled = np.flatnonzero(areas)
    thick = np.flatnonzero(areas >= _TAIL_SHARE * areas.max())
    longest = round(_POLE_MM / SPACING_MM)
    first = thick[0] if thick[0] - filled[0] > longest else filled[0]
    last = thick[-1] if filled[-1] - thick[-1] > longest else filled[-1]
    return int(min(first, sure[0])), int(max(last, sure[-1]))


def _with_similar_voxels(region: Region, core: MaskArray, kidney_hu: float) -> MaskArray:
    """Return the core with connected voxels nearby that enhance like the kidney, or the core alone if they leak."""
    low, high = np.add(_ALIKE_HU, kidney_hu)
    alike = (region.hu > low) & (region.hu < high) & (region.distance_mm < _ALIKE_MM)
    grown = _connected(ndimage.binary_opening(alike, iterations=2) | core, core)
    leaked = np.count_nonzero(grown) > _MAX_GROWTH * np.count_nonzero(region.kidney >= _EXPECTED_SHARE)
    return core if leaked else grown


def _neighbours(region: Region, soft: MaskArray, core: MaskArray, depth: FloatArray) -> MaskArray:
    """Return the soft tissue that certainly belongs to other organs: remote tissue, bone, bowel, and large organs."""
    elsewhere = region.kidney <= _ELSEWHERE_SHARE
    expected = elsewhere & (region.other >= _NEIGHBOUR_SHARE) & (region.distance_mm > _NEIGHBOUR_MM)
    gas_mm = ndimage.distance_transform_edt(region.hu >= _GAS_HU, sampling=SPACING_MM)
    # Close to the expected kidney, soft tissue near gas may be the kidney.
    bowel = (gas_mm <= _BOWEL_MM) & (region.distance_mm > _BOWEL_MM)
    bone = (region.hu > _BONE_HU) & elsewhere
    remote = region.distance_mm > REACH_MM - _REGION_EDGE_MM
    organs = expected & _large_organs(region, core, depth)
    return np.asarray(soft & (organs | bowel | bone | remote) & ~core)


def _large_organs(region: Region, core: MaskArray, depth: FloatArray) -> MaskArray:
    """Return the deep parts of soft tissue that extend beyond the reach of a tumor.

    A tumor may be where the atlases expect other organs. It differs from them by its smaller extent.
    """
    deep = (depth > _NEIGHBOUR_DEPTH_MM) & ~ndimage.binary_dilation(core)
    parts, count = ndimage.label(deep)
    is_large = ndimage.maximum(region.distance_mm, parts, np.arange(count + 1)) >= _REMOTE_MM
    is_large[0] = False  # number 0 is everything that is not deep
    return np.asarray(is_large[parts])


def _flood(depth: FloatArray, core: MaskArray, neighbours: MaskArray) -> MaskArray:
    """Divide the region between the markers by a watershed, and return the part of the kidney.

    Args:
        depth: depth below the surface of soft tissue in mm.
        core: marker of the kidney.
        neighbours: marker of other organs.
    """
    import SimpleITK as sitk

    markers = np.where(core, _KIDNEY, np.where(neighbours, _NEIGHBOUR, 0)).astype(np.uint8)
    # The filter takes integers. A resolution of 0.1 mm is well below the voxel size.
    level = np.rint(10 * (depth.max() - depth)).astype(np.uint16)
    basins = sitk.MorphologicalWatershedFromMarkers(
        *map(sitk.GetImageFromArray, (level, markers)), markWatershedLine=False, fullyConnected=False
    )
    return np.asarray(sitk.GetArrayFromImage(basins) == _KIDNEY)


def _connected(mask: MaskArray, core: MaskArray) -> MaskArray:
    """Return the connected parts of a mask that contain a voxel of the core."""
    parts, count = ndimage.label(mask)
    kept = np.zeros(count + 1, bool)
    kept[parts[core]] = True
    kept[0] = False
    return np.asarray(kept[parts])


def _grid_over(box: Box, scan: Grid) -> Grid:
    """Return an isotropic grid over the part of a box that is within the scan. It has at least one voxel."""
    low = np.array(scan.origin_mm) - np.array(scan.spacing_mm) / 2
    high = low + np.multiply(scan.shape, scan.spacing_mm)
    low = np.clip(box.low_mm, low, high - SPACING_MM)
    shape = np.maximum(np.rint((np.clip(box.high_mm, low, high) - low) / SPACING_MM), 1)
    return Grid.axis_aligned(shape_of(shape), (SPACING_MM,) * 3, triple_of(low + SPACING_MM / 2))
