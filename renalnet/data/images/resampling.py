"""Resampling from one axis-aligned grid to another without aliasing. Coinciding voxels are copied exactly.

All functions expect grids of identity direction, which `volume.canonical` produces.
"""

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.volume import Grid, Volume, resample
from renalnet.types import Shape, Triple

LATTICE_TOLERANCE = 1e-3
"""Largest offset between two grids, in voxels, that still counts as a shared lattice."""


def covering_grid(grid: Grid, spacing_mm: Triple | None) -> Grid:
    """Return a grid of another spacing that covers the same extent, to the nearest voxel.

    The grid itself is returned if `spacing_mm` is None or its own spacing.
    """
    if spacing_mm is None or np.allclose(spacing_mm, grid.spacing_mm, rtol=1e-5):
        return grid
    old = np.array(grid.spacing_mm)
    new = np.array(spacing_mm)
    # A scan thinner than half a new voxel keeps one voxel.
    shape = np.maximum(np.rint(np.array(grid.shape) * old / new), 1).astype(int)
    # The outer edges of both grids must coincide. They are half a voxel from the centre of the first voxel.
    origin = np.array(grid.origin_mm) + (new - old) / 2
    return Grid.axis_aligned(shape_of(shape), spacing_mm, triple_of(origin))


def regrid_image(image: Volume, grid: Grid, fill: float) -> Volume:
    """Return int16 or float intensities on another grid, with `fill` outside the image's field of view.

    If the grids share a lattice, the voxels are copied. Otherwise the intensities are interpolated linearly. Along
    axes where the new grid is at least 1.5 times coarser, they are first averaged over blocks of voxels, which
    prevents aliasing of fine structures.
    """
    offset = _lattice_offset(image.grid, grid)
    if offset is not None:
        return Volume(_copy(image.array, offset, grid.shape, fill), grid)
    near = block_means(_neighbourhood(image, grid), _block_sizes(image.grid, grid))
    values = resample(near, grid, is_label=False, fill=fill).array
    if np.issubdtype(image.array.dtype, np.integer):
        # The cast alone would truncate towards 0.
        values = np.rint(values)
    return Volume(values.astype(image.array.dtype), grid)


def regrid_label(label: Volume, grid: Grid) -> Volume:
    """Return uint8 labels on another grid, with background outside the label map's extent.

    If the grids share a lattice, the voxels are copied. Otherwise each class is resampled like an intensity, and
    each voxel takes the class with the largest share. Nearest neighbour would turn thick slices into stairs.
    """
    offset = _lattice_offset(label.grid, grid)
    if offset is not None:
        return Volume(_copy(label.array, offset, grid.shape, 0), grid)
    near = _neighbourhood(label, grid)
    factors = _block_sizes(label.grid, grid)
    # Labels above the highest one have no share anywhere.
    shares = np.empty((1 + int(near.array.max()), *grid.shape), np.float32)
    for value in range(1, len(shares)):
        mask = Volume((near.array == value).astype(np.float32), near.grid)
        shares[value] = resample(block_means(mask, factors), grid, is_label=False).array
    # Outside the label map both shares are 0, so background gets all of it.
    shares[0] = 1 - shares[1:].sum(axis=0)
    return Volume(shares.argmax(axis=0).astype(np.uint8), grid)


def block_means(volume: Volume, factors: Shape) -> Volume:
    """Return the float32 means over blocks of `factors` voxels (z, y, x).

    Where the size is not a multiple of the factor, the last voxels are repeated to fill the last block.
    """
    padding = [(0, -size % factor) for size, factor in zip(volume.array.shape, factors, strict=True)]
    padded = np.pad(volume.array, padding, mode="edge").astype(np.float32, copy=False)
    blocks = [part for size, k in zip(padded.shape, factors, strict=True) for part in (size // k, k)]
    array = padded.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    old = np.array(volume.grid.spacing_mm)
    scale = np.array(factors)
    # The centre of the first block is the mean of the centres of its voxels.
    origin = np.array(volume.grid.origin_mm) + old * (scale - 1) / 2
    return Volume(array, Grid.axis_aligned(shape_of(array.shape), triple_of(old * scale), triple_of(origin)))


def _block_sizes(old: Grid, new: Grid) -> Shape:
    return shape_of(np.maximum(np.rint(np.array(new.spacing_mm) / np.array(old.spacing_mm)), 1))


def _lattice_offset(old: Grid, new: Grid) -> NDArray[np.int_] | None:
    """Return the index of the new grid's first voxel on the old grid, or None if they share no lattice."""
    if not np.allclose(old.spacing_mm, new.spacing_mm, rtol=1e-5):
        return None
    offset = (np.array(new.origin_mm) - np.array(old.origin_mm)) / np.array(old.spacing_mm)
    whole = np.rint(offset)
    return whole.astype(int) if np.allclose(offset, whole, atol=LATTICE_TOLERANCE) else None


def _copy(array: NDArray[np.generic], offset: NDArray[np.int_], shape: Shape, fill: float) -> NDArray[np.generic]:
    copied = np.full(shape, fill, array.dtype)
    low = np.clip(offset, 0, array.shape)
    high = np.clip(offset + shape, low, array.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))
    if (high > low).all():
        copied[target] = array[source]
    return copied


def _neighbourhood(volume: Volume, grid: Grid) -> Volume:
    """Return the part of the volume that voxels of `grid` depend on, or at least one voxel.

    It saves time and memory: an ROI is a small part of a scan.
    """
    spacing = np.array(volume.grid.spacing_mm)
    origin = np.array(volume.grid.origin_mm)
    first = (np.array(grid.origin_mm) - origin) / spacing
    last = first + (np.array(grid.shape) - 1) * np.array(grid.spacing_mm) / spacing
    # Linear interpolation reads one block beyond each voxel. One more voxel allows for rounding.
    reach = 1 + np.array(_block_sizes(volume.grid, grid))
    size = np.array(volume.array.shape)
    low = np.clip(np.floor(first) - reach, 0, size - 1).astype(int)
    high = np.clip(np.ceil(last) + reach + 1, low + 1, size).astype(int)
    part = volume.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    place = Grid.axis_aligned(shape_of(part.shape), volume.grid.spacing_mm, triple_of(origin + low * spacing))
    return Volume(part, place)


def shape_of(values: NDArray[np.generic] | tuple[int, ...]) -> Shape:
    """Return three numbers as a (z, y, x) tuple of integers."""
    z, y, x = (int(value) for value in values)
    return z, y, x


def triple_of(values: NDArray[np.generic] | tuple[float, ...]) -> Triple:
    """Return three numbers as a (z, y, x) tuple of floats."""
    z, y, x = (float(value) for value in values)
    return z, y, x
