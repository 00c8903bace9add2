"""Synthetic CTs of heads, in which the localiser must not find kidneys."""

import numpy as np

from renalnet.config import PhantomConfig
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.phantom import tissue
from renalnet.data.phantom.coordinates import BodyCoordinates
from renalnet.data.phantom.scanner import scan

_SKULL_RADII_MM = (100.0, 92.0, 74.0)
_SKULL_THICKNESS_MM = 7.0
_BRAIN_HU = 35.0
_VENTRICLE_HU = 8.0


def paint_head(config: PhantomConfig, index: int) -> Volume:
    """Return a CT of a head above its neck, on the grid of an abdomen; a function of configuration and index alone."""
    # The last number separates this stream from those of `painter`, which end in 1 and 2.
    rng = np.random.default_rng([config.seed, index, 6])
    z, y, x = (-(size - 1) / 2 * spacing for size, spacing in zip(config.shape, config.spacing_mm, strict=True))
    grid = Grid.axis_aligned(config.shape, config.spacing_mm, (z, y, x))
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, grid.origin_mm)
    hu = np.full(config.shape, tissue.AIR_HU, np.float32)
    radii = np.array(_SKULL_RADII_MM) * rng.uniform(0.92, 1.06)
    # Outer layers come first, because each inner one is painted over them.
    layers = (
        ((-150.0, 10.0, 0.0), (140.0, 60.0, 58.0), tissue.MUSCLE_HU),  # neck
        ((0.0, 0.0, 0.0), radii + 5, tissue.MUSCLE_HU),
        ((0.0, 0.0, 0.0), radii, tissue.COMPACT_HU),
        ((0.0, 0.0, 0.0), radii - _SKULL_THICKNESS_MM, _BRAIN_HU),
        ((10.0, 0.0, -12.0), (14.0, 34.0, 7.0), _VENTRICLE_HU),
        ((10.0, 0.0, 12.0), (14.0, 34.0, 7.0), _VENTRICLE_HU),
    )
    for centre, (up, back, across), mean_hu in layers:
        region, mask = space.ellipsoid(centre, (float(up), float(back), float(across)))
        hu[region][mask] = mean_hu
    return Volume(scan(hu, config.spacing_mm, config, rng), grid)
