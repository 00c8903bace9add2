"""From a scan to the region of interest of one kidney (paper, II.A; growing the window is reconstruction)."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from renalnet.config import PrepareConfig
from renalnet.data.cases.loading import AIR_HU, LoadedCase
from renalnet.data.cases.sides import SIDE_VALUES, Box, Side, lesioned_side, split_sides
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label, shape_of, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import TUMOR, HuArray, LabelArray

GROWN: Final = "window grown to hold every labelled voxel"
TUMOR_LOST: Final = "tumor too small for the ROI grid, lost in resampling"
CUT_FIELD_FACTOR: Final = 1.3
"""A scan whose in-plane field of view is at most this many windows wide is taken for an ROI already cut."""


@dataclass(frozen=True)
class Cut:
    """An ROI: image and label (z, y, x) on an upright grid."""

    image: HuArray
    label: LabelArray
    grid: Grid
    notes: tuple[str, ...] = ()


def is_cut(scan: Grid, config: PrepareConfig) -> bool:
    """Whether a scan (canonical grid) is taken as an ROI already cut."""
    if config.localise != "auto":
        return config.localise == "cut"
    field_mm = np.multiply(scan.shape, scan.spacing_mm)[1:]
    return bool(field_mm.max() <= CUT_FIELD_FACTOR * config.window_mm)


def isolate_kidney(loaded: LoadedCase, seed: int) -> tuple[LoadedCase, Side]:
    """The case with only its lesioned kidney labelled, and that kidney's side.

    An ROI is about one kidney: the other's voxels become background, wherever they lie. The lesioned kidney
    is the one with most tumor voxels; of a patient without tumor a labelled side is drawn, from the seed and
    the case's name. The label must not be empty.
    """
    sides = split_sides(loaded.label, loaded.image)
    digest = hashlib.sha256(loaded.case.encode()).digest()
    choice = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    side = lesioned_side(loaded.label, sides, choice)
    label = np.where(sides == SIDE_VALUES[side], loaded.label.array, 0).astype(np.uint8)
    return replace(loaded, label=Volume(label, loaded.label.grid)), side


def cut_roi(loaded: LoadedCase, box: Box | None, config: PrepareConfig) -> Cut:
    """Cut the ROI around `box`, or take the whole scan where there is none, and bring it to the ROI grid.

    The window is `window_mm` wide, grown where the box does not fit, and grown again where a labelled voxel
    would be cropped away (then noted). Outside the field of view the image holds -1024 HU and the label
    background.
    """
    grid, notes = roi_grid(loaded.image.grid, box, config), []
    label_box = Box.around(loaded.label.array > 0, loaded.label.grid)
    if box and label_box and not _extent(grid).holds(label_box):
        room = _clipped(label_box.grown(config.margin_mm), _extent(loaded.image.grid))
        grid = _grid_over(_extent(grid).union(room), loaded.image.grid, config)
        notes.append(GROWN)
    label = regrid_label(loaded.label, grid).array
    if (loaded.label.array == TUMOR).any() and not (label == TUMOR).any():
        notes.append(TUMOR_LOST)
    return Cut(regrid_image(loaded.image, grid, AIR_HU).array, label, grid, tuple(notes))


def cut_image(image: Volume, box: Box | None, config: PrepareConfig) -> Volume:
    """The ROI of a scan without label: canonical int16 HU in, an upright ROI on the ROI grid out."""
    return regrid_image(image, roi_grid(image.grid, box, config), AIR_HU)


def roi_grid(scan: Grid, box: Box | None, config: PrepareConfig) -> Grid:
    """The grid of the ROI around a kidney's box; of the whole scan where there is no box.

    Without `spacing_mm` the ROI's voxels are voxels of the scan.
    """
    if box is None:
        return covering_grid(scan, config.spacing_mm)
    field = _extent(scan)
    size = np.array(box.size_mm)
    sides = np.where(size <= config.window_mm, config.window_mm, size + 2 * config.margin_mm)
    sides[0] = size[0] + 2 * config.margin_mm
    low, high = np.array(box.centre_mm) - sides / 2, np.array(box.centre_mm) + sides / 2
    # A window that leaves the field of view moves back into it, where it fits; along z it ends with the scan.
    shift = np.maximum(np.subtract(field.low_mm, low), 0) - np.maximum(np.subtract(high, field.high_mm), 0)
    shift[(high - low > np.array(field.size_mm)) | np.array([True, False, False])] = 0
    low, high = low + shift, high + shift
    low[0], high[0] = np.clip([low[0], high[0]], field.low_mm[0], field.high_mm[0])
    return _grid_over(Box(triple_of(low), triple_of(high)), scan, config)


def _grid_over(window: Box, scan: Grid, config: PrepareConfig) -> Grid:
    if config.spacing_mm is None:
        return _snapped(window, scan)
    spacing = np.array(config.spacing_mm)
    shape = np.maximum(np.ceil(np.array(window.size_mm) / spacing - 1e-6), 1)
    # Centred on the window, so that what it exceeds the window by is less than half a voxel on either side.
    first = np.array(window.centre_mm) - (shape - 1) / 2 * spacing
    return Grid.axis_aligned(shape_of(shape), config.spacing_mm, triple_of(first))


def _snapped(window: Box, scan: Grid) -> Grid:
    """The scan's own lattice, cropped to the voxels that the window touches (also beyond the scan)."""
    spacing, origin = np.array(scan.spacing_mm), np.array(scan.origin_mm)
    low = np.floor((np.array(window.low_mm) - origin) / spacing + 0.5 + 1e-6)
    high = np.ceil((np.array(window.high_mm) - origin) / spacing + 0.5 - 1e-6)
    shape = np.maximum(high - low, 1)
    return Grid.axis_aligned(shape_of(shape), scan.spacing_mm, triple_of(origin + low * spacing))


def _extent(grid: Grid) -> Box:
    spacing, origin = np.array(grid.spacing_mm), np.array(grid.origin_mm)
    low = origin - spacing / 2
    return Box(triple_of(low), triple_of(low + np.array(grid.shape) * spacing))


def _clipped(box: Box, field: Box) -> Box:
    low, high = np.maximum(box.low_mm, field.low_mm), np.minimum(box.high_mm, field.high_mm)
    return Box(triple_of(low), triple_of(high))
