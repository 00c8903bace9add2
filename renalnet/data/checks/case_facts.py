"""Measurement of the facts of a loaded case: histograms, volumes by component and by side, digests."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.config import LabelSet, PrepareConfig
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.cases.roi import is_cut, roi_grid
from renalnet.data.cases.sides import BODY_HU, SIDE_VALUES, SIDES, Box, Side, split_sides
from renalnet.data.checks.facts import CaseFacts, Phase
from renalnet.data.checks.shape_facts import shape_facts
from renalnet.data.checks.signature import coarse_signature
from renalnet.data.images.resampling import shape_of, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import HuArray, LabelArray, MaskArray

ENHANCED_HU: Final = 75.0
"""Mean above which a kidney counts as enhanced: about 35 HU without contrast agent, 100-500 HU with it (paper)."""
FAT_HU: Final = (-150, -50)
"""Range of the CT numbers of fat, bounds included."""
NOT_TISSUE_HU: Final = -30
"""CT number that separates parenchyma (above in every phase) from fat and air (below)."""
FRAGMENT_ML: Final = 0.1
"""Volume below which a labelled component counts as a fragment: a twentieth of the paper's smallest tumor."""
FACES: Final = (("feet", "head"), ("front", "back"), ("right", "left"))
"""Names of the faces of a volume at the low and the high end of z, y and x (LPS)."""

_PAPER_ROI: Final = PrepareConfig(spacing_mm=None)
"""Settings of the paper's ROI, on the scan's own voxels."""
# The tissues that facts tell apart. Other structures than the kidney and its lesions count as background.
_KIDNEY: Final = 1
_TUMOR: Final = 2
_OTHER_LESION: Final = 3
_NUM_TISSUES: Final = 4
_HU_OFFSET: Final = 2**15
"""Index of 0 HU in a histogram of all int16 values."""


@dataclass(frozen=True)
class _Labelled:
    """The bounding box of the labelled voxels of a case; all arrays are (z, y, x) on `grid`."""

    image: HuArray
    label: LabelArray
    """Tissues: 0, `_KIDNEY`, `_TUMOR` or `_OTHER_LESION`."""
    sides: NDArray[np.uint8]
    """Value of `SIDE_VALUES` of each labelled voxel, 0 elsewhere."""
    grid: Grid


def measure_case(loaded: LoadedCase) -> CaseFacts:
    """Return the facts of a case; an empty label map gives volumes of 0 and means of None.

    The volumes of the ROI are those that `renalnet.data.cases.roi.roi_grid` cuts with the paper's window (97.5 mm
    in-plane, the kidney and 10 mm along z), before resampling. An ROI that is already cut is measured as a whole.
    """
    return CaseFacts(
        case=loaded.case,
        **_scan_facts(loaded),
        **_image_facts(loaded.image.array),
        **_label_facts(loaded),
        image_digest=image_digest(loaded),
        label_digest=label_digest(loaded),
    )


def image_digest(loaded: LoadedCase) -> str:
    """Return a hash of the voxels of the image; equal only for the same voxels."""
    # hashlib takes a buffer in C order only; a flipped or permuted view is none.
    return hashlib.sha256(np.ascontiguousarray(loaded.image.array).data).hexdigest()


def label_digest(loaded: LoadedCase) -> str:
    """Return a hash of the voxels of the label map; equal only for the same voxels."""
    return hashlib.sha256(np.ascontiguousarray(loaded.label.array).data).hexdigest()


def _scan_facts(loaded: LoadedCase) -> dict[str, Any]:
    grid = loaded.image.grid
    cosines = np.abs(loaded.source.direction)
    return {
        **dict(zip(("num_slices", "num_rows", "num_columns"), grid.shape, strict=True)),
        **dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), map(_rounded, grid.spacing_mm), strict=True)),
        # Cosines near 0 and 1 are axes that are only permuted or flipped; 1e-3 allows for rounded headers.
        "oblique": bool(np.minimum(cosines, np.abs(1 - cosines)).max() > 1e-3),
        "is_cut": is_cut(grid, _PAPER_ROI),
    }


def _image_facts(image: HuArray) -> dict[str, Any]:
    counts = _hu_counts(image)
    filled = np.flatnonzero(counts) - _HU_OFFSET
    # Percentiles by the histogram need neither a sort nor a copy of the image.
    p1, p99 = np.searchsorted(np.cumsum(counts), [0.01 * image.size, 0.99 * image.size]) - _HU_OFFSET
    num_air = counts[: BODY_HU + _HU_OFFSET].sum()
    num_fat = counts[FAT_HU[0] + _HU_OFFSET : FAT_HU[1] + _HU_OFFSET + 1].sum()
    return {
        "hu_min": int(filled[0]),
        "hu_max": int(filled[-1]),
        "hu_p1": int(p1),
        "hu_p99": int(p99),
        "air_share": _rounded(num_air / image.size),
        "fat_share": _rounded(num_fat / max(image.size - num_air, 1)),
    }


def _hu_counts(image: HuArray) -> NDArray[np.int64]:
    """Return the frequency of each CT number from -32768 on, shape (65536,)."""
    counts = np.zeros(2 * _HU_OFFSET, np.int64)
    # One slice at a time: the conversion to platform integers takes four times the memory of the image.
    for plane in image:
        counts += np.bincount(plane.ravel().astype(np.intp) + _HU_OFFSET, minlength=counts.size)
    return counts


def _label_facts(loaded: LoadedCase) -> dict[str, Any]:
    # SciPy's `find_objects` refuses booleans; the view makes integers of them without a copy.
    body = loaded.body
    found = ndimage.find_objects((body.array > 0).view(np.int8))
    sides = split_sides(body, loaded.image)
    # An empty box spares everything below a branch for an empty label map.
    where = found[0] if found else (slice(0, 0),) * 3
    image = loaded.image.array[where]
    label = _tissues(loaded.label.array[where], loaded.labels)
    grid = loaded.image.grid
    part = _Labelled(image, label, sides[where], _cropped(grid, where))
    kidney = image[label == _KIDNEY]
    tumor = image[label == _TUMOR]
    return {
        "kidney_hu": _mean(kidney),
        "kidney_not_tissue_share": _mean(kidney < NOT_TISSUE_HU),
        "tumor_hu": _mean(tumor),
        "phase": _phase(_mean(kidney)),
        "label_faces": _faces(where, grid),
        "midline_offset_mm": _midline_offset_mm(part, loaded.image),
        **_component_facts(label, grid.voxel_ml),
        **_side_facts(part, grid),
        **shape_facts(loaded.image, Volume(part.sides, part.grid)),
    }


def _tissues(values: LabelArray, labels: LabelSet) -> LabelArray:
    table = np.zeros(labels.num_classes, np.uint8)
    table[[label.value for label in labels.lesions]] = _OTHER_LESION
    table[labels.kidney.value] = _KIDNEY
    table[labels.tumor.value] = _TUMOR
    return table[values]


def _phase(kidney_hu: float | None) -> Phase:
    if kidney_hu is None:
        return "unknown"
    return "enhanced" if kidney_hu >= ENHANCED_HU else "unenhanced"


def _faces(where: tuple[slice, ...], grid: Grid) -> str:
    """Return the names of the faces of a grid that a box touches; empty for an empty box."""
    reached = []
    for part, size, (low, high) in zip(where, grid.shape, FACES, strict=True):
        if part.stop > part.start:
            reached += [low] * (part.start == 0) + [high] * (part.stop == size)
    return " ".join(reached)


def _component_facts(label: LabelArray, voxel_ml: float) -> dict[str, Any]:
    labelled = _component_ml(label > 0, label, voxel_ml)
    tumors = _component_ml(label == _TUMOR, label, voxel_ml)[:, _TUMOR]
    without_kidney = labelled[:, _KIDNEY] == 0
    return {
        "num_tumors": int(np.count_nonzero(tumors >= FRAGMENT_ML)),
        "tumor_detached_ml": _rounded(labelled[without_kidney, _TUMOR].sum()),
        "num_fragments": int(np.count_nonzero(labelled.sum(axis=1) < FRAGMENT_ML)),
    }


def _component_ml(mask: MaskArray, label: LabelArray, voxel_ml: float) -> NDArray[np.float64]:
    """Return the volume of each label in each 26-connected component of a mask, shape (components, labels)."""
    import cc3d

    components, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    # cc3d numbers components in the smallest type that fits, in which the product could overflow.
    index = (components[mask].astype(np.intp) - 1) * _NUM_TISSUES + label[mask]
    voxels = np.bincount(index, minlength=count * _NUM_TISSUES).reshape(count, _NUM_TISSUES)
    return np.asarray(voxels * voxel_ml, np.float64)


def _side_facts(part: _Labelled, scan: Grid) -> dict[str, Any]:
    # One histogram of pairs takes the place of a mask for each side and label.
    pairs = (part.sides * _NUM_TISSUES + part.label).ravel()
    voxels = np.bincount(pairs, minlength=(1 + len(SIDES)) * _NUM_TISSUES)
    volumes = voxels.reshape(-1, _NUM_TISSUES) * scan.voxel_ml
    side = max(SIDES, key=lambda one: (volumes[SIDE_VALUES[one], _TUMOR], volumes[SIDE_VALUES[one], _KIDNEY]))
    return {
        "kidney_left_ml": _rounded(volumes[SIDE_VALUES["left"], _KIDNEY]),
        "kidney_right_ml": _rounded(volumes[SIDE_VALUES["right"], _KIDNEY]),
        "tumor_ml": _rounded(volumes[:, _TUMOR].sum()),
        **_roi_facts(part, side, scan),
    }


def _roi_facts(part: _Labelled, side: Side, scan: Grid) -> dict[str, Any]:
    """Return the facts of the ROI around the kidney of `side`; in an ROI already cut every kidney counts."""
    inside = part.sides > 0 if is_cut(scan, _PAPER_ROI) else part.sides == SIDE_VALUES[side]
    box = Box.around(inside, part.grid)
    if box is None:
        return {"roi_ml": 0.0, "roi_kidney_ml": 0.0, "roi_tumor_ml": 0.0, "signature": ""}
    roi = scan if is_cut(scan, _PAPER_ROI) else roi_grid(scan, box, _PAPER_ROI)
    # `roi_grid` makes room for the whole box, so every voxel of this kidney is inside the ROI.
    voxels = np.bincount(part.label[inside], minlength=_NUM_TISSUES)
    return {
        "roi_ml": _rounded(np.prod(roi.shape) * scan.voxel_ml),
        "roi_kidney_ml": _rounded(voxels[_KIDNEY] * scan.voxel_ml),
        "roi_tumor_ml": _rounded(voxels[_TUMOR] * scan.voxel_ml),
        "signature": coarse_signature(part.image[ndimage.find_objects(inside.view(np.int8))[0]]),
    }


def _midline_offset_mm(part: _Labelled, image: Volume) -> float | None:
    """Return how far the kidneys' middle is to the left of the body's; None for one kidney or an ROI."""
    if is_cut(image.grid, _PAPER_ROI) or not all((part.sides == value).any() for value in SIDE_VALUES.values()):
        return None
    columns = np.arange(part.sides.shape[2])
    left, right = (
        float(np.average(columns, weights=np.count_nonzero(part.sides == value, axis=(0, 1))))
        for value in SIDE_VALUES.values()
    )
    # Each kidney counts once, or a large tumor would pull the middle to its side.
    middle_mm = part.grid.origin_mm[2] + (left + right) / 2 * part.grid.spacing_mm[2]
    return _rounded(middle_mm - _body_middle_mm(image))


def _body_middle_mm(image: Volume) -> float:
    """Return x of the body's centre of area, or of the image's middle where there is no body."""
    # A sixteenth of the voxels locates the middle well enough, and is 16 times as fast to read.
    thin = image.array[::4, ::4] > BODY_HU
    area = np.count_nonzero(thin, axis=(0, 1))
    weights = area if area.any() else np.ones_like(area)
    return float(image.grid.origin_mm[2] + np.average(np.arange(area.size), weights=weights) * image.grid.spacing_mm[2])


def _cropped(grid: Grid, where: tuple[slice, ...]) -> Grid:
    start = np.array([part.start for part in where])
    shape = shape_of(np.array([part.stop - part.start for part in where]))
    origin = np.array(grid.origin_mm) + start * np.array(grid.spacing_mm)
    return Grid.axis_aligned(shape, grid.spacing_mm, triple_of(origin))


def _mean(values: NDArray[Any]) -> float | None:
    return _rounded(values.mean()) if values.size else None


def _rounded(value: float | np.floating[Any]) -> float:
    """Round to six significant digits, which keeps the files short."""
    return float(f"{value:.6g}")
