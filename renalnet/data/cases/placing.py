"""Label maps on the grid of their scan, without resampling: axes turned, and cropped maps put in their place."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import MAX_VOXELS, Grid, Volume, grid_difference
from renalnet.data.images.resampling import shape_of, triple_of
from renalnet.data.images.slicer_segmentation import has_segments
from renalnet.errors import InputError
from renalnet.types import LabelArray


def on_grid(label: Volume, grid: Grid, path: Path, *, than: str, remedy: str, direction_error: float = 0.0) -> Volume:
    """Return the label map of a file on the grid of its scan.

    Resampling would hide a label map that belongs to another scan, so a difference is an error.

    Args:
        label: classes on the grid of the file.
        grid: grid of the scan.
        path: the file. 3D Slicer saves only the part of a scan that its segments extend to; any other file covers all.
        than: name of the scan in the error.
        remedy: what to do about a difference, in the error.
        direction_error: largest difference of the scan's axes, as cosines, that is due to rounding.

    Raises:
        InputError: the label map has other voxels than the scan, or labelled ones outside of it.
    """
    if has_segments(path):
        return Volume(placed(label, grid, path), grid)
    label = turned(label, grid)
    difference = grid_difference(label.grid, grid, direction_error)
    if difference:
        raise InputError(f"{path}: on another grid than {than} ({difference}); {remedy}")
    return Volume(np.ascontiguousarray(label.array), grid)


def turned(label: Volume, grid: Grid) -> Volume:
    """Return a label map with its axes in the order and the direction of those of `grid`.

    Converters from DICOM to NIfTI reverse the rows, or reorder the axes. The voxels and their positions stay the same.
    A label map whose axes are not along those of `grid` is returned as it is.
    """
    order, signs = _axes(label.grid, grid)
    if sorted(order) != [0, 1, 2]:
        return label
    # The axes of arrays run the other way round: axis 2 of an array is x, axis 0 of a grid.
    array = label.array.transpose([2 - order[axis] for axis in (2, 1, 0)])
    array = array[tuple(slice(None, None, signs[axis]) for axis in (2, 1, 0))]
    steps = _steps(label.grid)
    last = np.array(label.grid.size_xyz) - 1
    origin = np.array(label.grid.origin_xyz_mm)
    for axis, sign in zip(order, signs, strict=True):
        if sign < 0:
            origin += steps[:, axis] * last[axis]
    directions = _directions(label.grid)[:, order] * signs
    size = shape_of(np.array(label.grid.size_xyz)[order])
    spacing = triple_of(np.array(label.grid.spacing_xyz_mm)[order])
    return Volume(array, Grid(size, spacing, triple_of(origin), tuple(directions.ravel().tolist())))


def placed(label: Volume, grid: Grid, where: object) -> LabelArray:
    """Return a label map of a part of a scan on the scan's grid, uint8 (z, y, x), with background around it.

    Args:
        label: classes; its voxels are voxels of the scan, with axes in any order and direction.
        grid: grid of the scan.
        where: name of the label's file in error messages.

    Raises:
        InputError: the voxels are not those of the scan, or labelled ones lie outside of the scan.
    """
    part = turned(label, grid)
    whole = np.zeros(grid.shape, np.uint8)
    if not part.array.any():
        return whole
    offset = _offset(part.grid, grid, where)
    low = np.clip(offset, 0, grid.shape)
    high = np.clip(offset + part.array.shape, low, grid.shape)
    inside = part.array[tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))]
    outside = np.count_nonzero(part.array) - np.count_nonzero(inside)
    if outside:
        raise InputError(
            f"{where}: {outside} labelled voxels lie outside of its scan; check that they belong together, and crop it"
        )
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    return whole


def common_grid(first: Grid, second: Grid, where: object) -> Grid:
    """Return the smallest grid of the voxels of `first` that covers both grids.

    Args:
        first: a grid; the result has its voxels, and more of them where `second` extends beyond it.
        second: a grid with axes in any order and direction.
        where: name of the second grid's file in error messages.

    Raises:
        InputError: both together are larger than any scan.
    """
    ends = np.array([np.zeros(3), np.array(second.size_xyz) - 1])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    places_mm = np.array(second.origin_xyz_mm) + corners @ _steps(second).T
    indices = np.rint(np.linalg.solve(_steps(first), (places_mm - first.origin_xyz_mm).T).T)
    low = np.minimum(indices.min(axis=0), 0)
    size = np.maximum(indices.max(axis=0), np.array(first.size_xyz) - 1) - low + 1
    if size.prod() > MAX_VOXELS:
        raise InputError(f"{where}: lies too far from the mask that it is compared with; name masks of one scan")
    origin = np.array(first.origin_xyz_mm) + _steps(first) @ low
    return Grid(shape_of(size), first.spacing_xyz_mm, triple_of(origin), first.direction)


def _offset(part: Grid, grid: Grid, where: object) -> NDArray[np.int_]:
    """Return the index (z, y, x) of the scan's voxel that is the first one of a part; it may be outside of the scan."""
    steps = _steps(grid)
    apart = np.array(part.origin_xyz_mm) - grid.origin_xyz_mm
    offset = np.rint(np.linalg.solve(steps, apart))
    origin = triple_of(np.array(grid.origin_xyz_mm) + steps @ offset)
    difference = grid_difference(part, Grid(part.size_xyz, grid.spacing_xyz_mm, origin, grid.direction))
    if difference:
        raise InputError(
            f"{where}: its voxels are not those of its scan ({difference}); make the scan the source volume of the "
            "segmentation with an oversampling of 1, labels are never resized"
        )
    return np.asarray(offset[::-1], int)


def _axes(label: Grid, grid: Grid) -> tuple[list[int], list[int]]:
    """Return for each axis of `grid` the axis of the label map along it, and 1 or -1 for its direction."""
    cosines = _directions(grid).T @ _directions(label)
    order = np.abs(cosines).argmax(axis=1)
    return order.tolist(), np.where(cosines[range(3), order] < 0, -1, 1).tolist()


def _directions(grid: Grid) -> NDArray[np.float64]:
    return np.array(grid.direction, float).reshape(3, 3)


def _steps(grid: Grid) -> NDArray[np.float64]:
    """Return the vectors from one voxel to the next, in columns, in mm."""
    return _directions(grid) * grid.spacing_xyz_mm
