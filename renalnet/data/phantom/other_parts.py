"""Synthetic CTs of heads, chests and legs, in which the localiser must not find kidneys."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import numpy as np

from renalnet.config import PhantomConfig
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.phantom.body import depth_below_skin, draw_habitus, paint_body
from renalnet.data.phantom.coordinates import BodyCoordinates
from renalnet.data.phantom.imaging import tissue
from renalnet.data.phantom.imaging.scanner import narrow_acquisition, scan
from renalnet.data.phantom.surroundings import paint_inside
from renalnet.data.phantom.variety import variety_of
from renalnet.types import FloatArray

OtherPart: TypeAlias = Literal["head", "chest", "legs"]

_SKULL_RADII_MM: Final = (100.0, 92.0, 74.0)
_SKULL_THICKNESS_MM: Final = 7.0
_MUSCLE_HU: Final = 58.0
_BONE_HU: Final = 820.0
_BRAIN_HU: Final = 35.0
_VENTRICLE_HU: Final = 8.0
_ABOVE_KIDNEYS_MM: Final = 105.0
"""Height of the lowest slice of a chest in the coordinates of the body, above any kidney."""
_THIGH_MM: Final = (70.0, 95.0)
"""Range of the radius of a thigh."""
# The last number separates these streams from those of `painter`.
_STREAMS: Final[dict[OtherPart, int]] = {"head": 6, "chest": 13, "legs": 14}


def paint_other_part(part: OtherPart, config: PhantomConfig, index: int) -> Volume:
    """Return a CT of another part of the body, on the grid of an abdomen; a function of its arguments alone."""
    rng = np.random.default_rng([config.seed, index, _STREAMS[part]])
    z, y, x = (-(size - 1) / 2 * spacing for size, spacing in zip(config.shape, config.spacing_mm, strict=True))
    grid = Grid.axis_aligned(config.shape, config.spacing_mm, (z, y, x))
    hu = _PAINTERS[part](config, index, grid, rng)
    taken = variety_of(config, index).acquisition or narrow_acquisition(config)
    return Volume(scan(hu, config.spacing_mm, taken, rng), grid)


def _paint_head(config: PhantomConfig, _: int, grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return a head above its neck."""
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, grid.origin_mm)
    hu = np.full(config.shape, tissue.AIR_HU, np.float32)
    radii = np.array(_SKULL_RADII_MM) * rng.uniform(0.92, 1.06)
    # Outer layers come first, because each inner one is painted over them.
    layers = (
        ((-150.0, 10.0, 0.0), (140.0, 60.0, 58.0), _MUSCLE_HU),  # neck
        ((0.0, 0.0, 0.0), radii + 5, _MUSCLE_HU),
        ((0.0, 0.0, 0.0), radii, _BONE_HU),
        ((0.0, 0.0, 0.0), radii - _SKULL_THICKNESS_MM, _BRAIN_HU),
        ((10.0, 0.0, -12.0), (14.0, 34.0, 7.0), _VENTRICLE_HU),
        ((10.0, 0.0, 12.0), (14.0, 34.0, 7.0), _VENTRICLE_HU),
    )
    for centre, (up, back, across), mean_hu in layers:
        region, mask = space.ellipsoid(centre, (float(up), float(back), float(across)))
        hu[region][mask] = mean_hu
    return hu


def _paint_chest(config: PhantomConfig, index: int, grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return a chest: the body of an abdomen, seen higher, with lungs, heart and mediastinum."""
    variety = variety_of(config, index)
    _, y, x = grid.origin_mm
    first = (_ABOVE_KIDNEYS_MM * variety.size[0], y, x)
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, first, variety.size)
    habitus = variety.habitus or draw_habitus(rng)
    enhancement = variety.enhancement or tissue.draw_enhancement(rng)
    depth = depth_below_skin(space, habitus)
    canvas = paint_body(space, depth, habitus, enhancement, rng)
    region, middle = space.ellipsoid((300, 0, 0), (160, 60, 32))
    canvas.fill(region, middle, enhancement.muscle)
    paint_inside(canvas, depth, rng)
    return canvas.hu


def _paint_legs(config: PhantomConfig, index: int, grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return two thighs with their bones."""
    enhancement = variety_of(config, index).enhancement or tissue.draw_enhancement(rng)
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, grid.origin_mm)
    hu = np.full(config.shape, tissue.AIR_HU, np.float32)
    radius = float(rng.uniform(*_THIGH_MM))
    layers = (
        (radius, enhancement.fat),
        (0.85 * radius, enhancement.muscle),
        (16.0, enhancement.compact),
        (9.0, enhancement.fat + 40),
    )
    for side in (-1, 1):
        for reach, mean_hu in layers:
            region, mask = space.ellipsoid((0, 0, side * 1.05 * radius), (1e4, reach, reach))
            hu[region][mask] = mean_hu
    return hu


_PAINTERS: Final[dict[OtherPart, Callable[[PhantomConfig, int, Grid, np.random.Generator], FloatArray]]] = {
    "head": _paint_head,
    "chest": _paint_chest,
    "legs": _paint_legs,
}
