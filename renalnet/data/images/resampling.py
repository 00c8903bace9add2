"""From one upright grid to another without aliasing; exact where the voxels of both coincide.

Everything here expects grids of identity direction, as `volume.canonical` gives them.
"""

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.volume import Grid, Volume, resample
from renalnet.types import FOREGROUND_LABELS, NUM_CLASSES, Shape, Triple

LATTICE_TOLERANCE = 1e-3
"""Share of a voxel by which two lattices may miss each other and still count as one."""


def covering_grid(grid: Grid, spacing_mm: Triple | None) -> Grid:
    """The grid of another spacing over the same extent, to the nearest voxel; the grid itself for none."""
    if spacing_mm is None or np.allclose(spacing_mm, grid.spacing_mm, rtol=1e-5):
        return grid
    old, new = np.array(grid.spacing_mm), np.array(spacing_mm)
    shape = np.maximum(np.rint(np.array(grid.shape) * old / new), 1).astype(int)
    # Equal extents have equal outer edges, half a voxel beyond the first voxel's centre.
    origin = np.array(grid.origin_mm) + (new - old) / 2
    return Grid.axis_aligned(shape_of(shape), spacing_mm, triple_of(origin))


def regrid_image(image: Volume, grid: Grid, fill: float) -> Volume:
    """int16 or float intensities on another grid; `fill` outside the image's field of view.

    Voxels are copied where the grids share a lattice. Otherwise they are averaged over blocks where the new
    grid is at least 1.5 times coarser along an axis, which keeps structures too fine for it from aliasing,
    and then interpolated linearly.
    """
    offset = _lattice_offset(image.grid, grid)
    if offset is not None:
        return Volume(_copy(image.array, offset, grid.shape, fill), grid)
    near = shrink(_neighbourhood(image, grid), _factors(image.grid, grid))
    values = resample(near, grid, is_label=False, fill=fill).array
    if np.issubdtype(image.array.dtype, np.integer):
        values = np.rint(values)
    return Volume(values.astype(image.array.dtype), grid)


def regrid_label(label: Volume, grid: Grid) -> Volume:
    """uint8 labels 0 to 2 on another grid, background outside.

    Voxels are copied where the grids share a lattice; otherwise each class is averaged and interpolated like
    an intensity and the largest share wins, so that thick slices give smooth surfaces and none is preferred.
    """
    offset = _lattice_offset(label.grid, grid)
    if offset is not None:
        return Volume(_copy(label.array, offset, grid.shape, 0), grid)
    near, factors = _neighbourhood(label, grid), _factors(label.grid, grid)
    shares = np.empty((NUM_CLASSES, *grid.shape), np.float32)
    for value in FOREGROUND_LABELS:
        mask = Volume((near.array == value).astype(np.float32), near.grid)
        shares[value] = resample(shrink(mask, factors), grid, is_label=False).array
    shares[0] = 1 - shares[1:].sum(axis=0)
    return Volume(shares.argmax(axis=0).astype(np.uint8), grid)


def shrink(volume: Volume, factors: Shape) -> Volume:
    """float32 means over blocks of `factors` voxels (z, y, x); the last voxels repeat to fill a block."""
    padding = [(0, -size % factor) for size, factor in zip(volume.array.shape, factors, strict=True)]
    padded = np.pad(volume.array, padding, mode="edge").astype(np.float32, copy=False)
    blocks = [part for size, k in zip(padded.shape, factors, strict=True) for part in (size // k, k)]
    array = padded.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    old, scale = np.array(volume.grid.spacing_mm), np.array(factors)
    origin = np.array(volume.grid.origin_mm) + old * (scale - 1) / 2
    return Volume(array, Grid.axis_aligned(shape_of(array.shape), triple_of(old * scale), triple_of(origin)))


def _factors(old: Grid, new: Grid) -> Shape:
    return shape_of(np.maximum(np.rint(np.array(new.spacing_mm) / np.array(old.spacing_mm)), 1))


def _lattice_offset(old: Grid, new: Grid) -> NDArray[np.int_] | None:
    """Index of the new grid's first voxel on the old grid, where both share a lattice."""
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
    """The part of the volume that voxels of `grid` depend on; at least one voxel."""
    spacing, origin = np.array(volume.grid.spacing_mm), np.array(volume.grid.origin_mm)
    first = (np.array(grid.origin_mm) - origin) / spacing
    last = first + (np.array(grid.shape) - 1) * np.array(grid.spacing_mm) / spacing
    reach = 1 + np.array(_factors(volume.grid, grid))
    size = np.array(volume.array.shape)
    low = np.clip(np.floor(first) - reach, 0, size - 1).astype(int)
    high = np.clip(np.ceil(last) + reach + 1, low + 1, size).astype(int)
    part = volume.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    place = Grid.axis_aligned(shape_of(part.shape), volume.grid.spacing_mm, triple_of(origin + low * spacing))
    return Volume(part, place)


def shape_of(values: NDArray[np.generic] | tuple[int, ...]) -> Shape:
    """Three numbers as a typed (z, y, x) of whole numbers."""
    z, y, x = (int(value) for value in values)
    return z, y, x


def triple_of(values: NDArray[np.generic] | tuple[float, ...]) -> Triple:
    """Three numbers as a typed (z, y, x) of floats."""
    z, y, x = (float(value) for value in values)
    return z, y, x
