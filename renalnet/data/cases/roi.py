"""Cutting of the region of interest (ROI) of one kidney from a scan (paper, II.A).

The paper uses ROIs of one size. Enlarging them for kidneys and tumors that do not fit is reconstruction.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from renalnet.config import PrepareConfig
from renalnet.data.cases.loading import AIR_HU, LoadedCase
from renalnet.data.cases.sides import SIDE_VALUES, Box, Side, lesioned_side, split_sides
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label, shape_of, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import HuArray, LabelArray

GROWN: Final = "window grown to hold every labelled voxel"
TUMOR_LOST: Final = "tumor too small for the ROI grid, lost in resampling"
CUT_FIELD_FACTOR: Final = 1.3
"""Largest in-plane field of view, in multiples of `window_mm`, of a scan that counts as an ROI already cut."""


@dataclass(frozen=True)
class CutRoi:
    """Image and label map (z, y, x) of an ROI on an axis-aligned grid."""

    image: HuArray
    label: LabelArray
    grid: Grid
    notes: tuple[str, ...] = ()
    """`GROWN` and `TUMOR_LOST`, where they apply."""


def is_cut(scan: Grid, config: PrepareConfig) -> bool:
    """Whether a scan on a canonical grid counts as an ROI already cut."""
    if config.localise != "auto":
        return config.localise == "cut"
    field_mm = np.multiply(scan.shape, scan.spacing_mm)[1:]
    return bool(field_mm.max() <= CUT_FIELD_FACTOR * config.window_mm)


def isolate_kidney(loaded: LoadedCase, seed: int) -> tuple[LoadedCase, Side]:
    """Return the case with labels of only one kidney, and the side of that kidney.

    An ROI shows one kidney, so the labels of the other one and of its lesions become background. The kidney with most
    tumor voxels is kept. Without a tumor, one of the labelled sides is drawn. The label map must not be empty.

    Args:
        loaded: the case.
        seed: seed of the draw, together with the name of the case. Other cases have no influence on it.
    """
    labels = loaded.labels
    sides = split_sides(loaded.body, loaded.image)
    # Python's `hash` of a string differs between processes; SHA-256 does not.
    digest = hashlib.sha256(loaded.case.encode()).digest()
    choice = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    side = lesioned_side(loaded.label.array == labels.tumor.value, sides, choice)
    # Other structures, such as vessels, have no side of their own.
    is_other = ~labels.body_mask(loaded.label.array)
    label = np.where((sides == SIDE_VALUES[side]) | is_other, loaded.label.array, 0).astype(np.uint8)
    return replace(loaded, label=Volume(label, loaded.label.grid)), side


def cut_roi(loaded: LoadedCase, box: Box | None, config: PrepareConfig) -> CutRoi:
    """Resample a case to the grid of the ROI around `box`, or of the whole scan if `box` is None.

    The ROI is `window_mm` wide and is enlarged if the box does not fit. It is enlarged again, with a note, if it would
    lose a voxel of the kidney or a lesion. Outside the field of view, the image is -1024 HU and the label map is
    background.
    """
    grid = roi_grid(loaded.image.grid, box, config)
    notes = []
    label_box = Box.around(loaded.body.array > 0, loaded.label.grid)
    # The localiser may miss a part of a tumor, which must never be cropped away.
    if box and label_box and not _extent(grid).holds(label_box):
        room = _clipped(label_box.grown(config.margin_mm), _extent(loaded.image.grid))
        grid = _grid_over(_extent(grid).union(room), loaded.image.grid, config)
        notes.append(GROWN)
    label = regrid_label(loaded.label, grid).array
    tumor = loaded.labels.tumor.value
    if (loaded.label.array == tumor).any() and not (label == tumor).any():
        notes.append(TUMOR_LOST)
    return CutRoi(regrid_image(loaded.image, grid, AIR_HU).array, label, grid, tuple(notes))


def cut_scan(image: Volume, box: Box | None, config: PrepareConfig) -> Volume:
    """Resample a canonical scan without a label map, int16 HU, to the grid of its ROI."""
    return regrid_image(image, roi_grid(image.grid, box, config), AIR_HU)


def roi_grid(scan: Grid, box: Box | None, config: PrepareConfig) -> Grid:
    """Return the grid of the ROI around the box of a kidney, or of the whole scan if `box` is None.

    If `spacing_mm` of the configuration is None, the ROI's voxels are voxels of the scan.
    """
    if box is None:
        return covering_grid(scan, config.spacing_mm)
    return _grid_over(_roi_box(box, _extent(scan), config), scan, config)


def _roi_box(box: Box, field: Box, config: PrepareConfig) -> Box:
    """Return the ROI around a kidney's box: `window_mm` wide in-plane, and as long as the kidney with margins."""
    size = np.array(box.size_mm)
    edges = np.where(size <= config.window_mm, config.window_mm, size + 2 * config.margin_mm)
    edges[0] = size[0] + 2 * config.margin_mm
    low = np.array(box.centre_mm) - edges / 2
    high = np.array(box.centre_mm) + edges / 2
    # An ROI that exceeds the field of view in-plane is moved back into it, if it fits, to avoid padding with air.
    shift = np.maximum(np.subtract(field.low_mm, low), 0) - np.maximum(np.subtract(high, field.high_mm), 0)
    shift[(high - low > np.array(field.size_mm)) | np.array([True, False, False])] = 0
    low = low + shift
    high = high + shift
    # Along z, where the length is free, it ends with the scan.
    low[0], high[0] = np.clip([low[0], high[0]], field.low_mm[0], field.high_mm[0])
    return Box(triple_of(low), triple_of(high))


def _grid_over(box: Box, scan: Grid, config: PrepareConfig) -> Grid:
    if config.spacing_mm is None:
        return _snapped(box, scan)
    spacing = np.array(config.spacing_mm)
    # The small term keeps rounding from making 151 voxels of the paper's 150.
    shape = np.maximum(np.ceil(np.array(box.size_mm) / spacing - 1e-6), 1)
    # The grid is centred on the box, so that it exceeds the box by less than half a voxel on either side.
    first = np.array(box.centre_mm) - (shape - 1) / 2 * spacing
    return Grid.axis_aligned(shape_of(shape), config.spacing_mm, triple_of(first))


def _snapped(box: Box, scan: Grid) -> Grid:
    """Return the scan's own lattice, cropped to the voxels that the box touches. It may extend beyond the scan."""
    spacing = np.array(scan.spacing_mm)
    origin = np.array(scan.origin_mm)
    # The small terms keep rounding from adding a voxel where the box ends at the edge of one.
    low = np.floor((np.array(box.low_mm) - origin) / spacing + 0.5 + 1e-6)
    high = np.ceil((np.array(box.high_mm) - origin) / spacing + 0.5 - 1e-6)
    shape = np.maximum(high - low, 1)
    return Grid.axis_aligned(shape_of(shape), scan.spacing_mm, triple_of(origin + low * spacing))


def _extent(grid: Grid) -> Box:
    spacing = np.array(grid.spacing_mm)
    low = np.array(grid.origin_mm) - spacing / 2
    return Box(triple_of(low), triple_of(low + np.array(grid.shape) * spacing))


def _clipped(box: Box, field: Box) -> Box:
    low = np.maximum(box.low_mm, field.low_mm)
    high = np.minimum(box.high_mm, field.high_mm)
    return Box(triple_of(low), triple_of(high))
