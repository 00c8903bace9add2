"""The true and the predicted mask of a case, read onto one grid without resampling."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from renalnet.config import LabelSet
from renalnet.data.cases.placing import common_grid, on_grid, placed
from renalnet.data.images.grid import Grid, Volume
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.slicer_segmentation import has_segments


@dataclass(frozen=True)
class Pair:
    """The mask files of a case."""

    truth: Path
    """File of the true mask."""
    pred: Path
    """File of the predicted mask."""
    labels: LabelSet
    """Meaning of the masks' values."""

    def __str__(self) -> str:
        return str(self.pred)


@dataclass(frozen=True)
class ReadPair:
    """The masks of a case on one grid, uint8 (z, y, x) for axes in any order and direction."""

    truth: Volume
    pred: Volume
    is_placed: bool = False
    """Whether one of them covers only a part of the grid, and background was put around it."""


def read_pair(pair: Pair) -> ReadPair:
    """Read the masks of a case on the voxels of their files, without resampling.

    A segmentation that 3D Slicer has cropped is put in its place in the other mask's grid.

    Raises:
        InputError: a mask cannot be read; the grids differ, other than by the extent of a segmentation of 3D Slicer or
            by the order and direction of the axes; or a cropped segmentation has labelled voxels outside of the other
            mask's grid.
    """
    truth = read_source_mask(pair.truth, pair.labels)
    pred = read_source_mask(pair.pred, pair.labels)
    if has_segments(pair.truth) or has_segments(pair.pred):
        return _placed(pair, truth, pred)
    remedy = "name masks of one scan, or resample it onto that grid"
    return ReadPair(truth, on_grid(pred, truth.grid, pair.pred, than=str(pair.truth), remedy=remedy))


def _placed(pair: Pair, truth: Volume, pred: Volume) -> ReadPair:
    whole = _whole_grid(pair, truth, pred)
    is_part = any(prod(mask.grid.size_xyz) < prod(whole.size_xyz) for mask in (truth, pred))
    true_mask = Volume(placed(truth, whole, pair.truth), whole)
    return ReadPair(true_mask, Volume(placed(pred, whole, pair.pred), whole), is_part)


def _whole_grid(pair: Pair, truth: Volume, pred: Volume) -> Grid:
    """Return the grid of the mask that 3D Slicer has not cropped, or one that covers both."""
    for path, mask in ((pair.truth, truth), (pair.pred, pred)):
        if not has_segments(path):
            return mask.grid
    # An empty segmentation may be a single voxel anywhere.
    if not (truth.array.any() and pred.array.any()):
        return truth.grid if truth.array.any() else pred.grid
    return common_grid(truth.grid, pred.grid, pair.pred)
