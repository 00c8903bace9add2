"""A scan on the coarse grid of the localiser, with two balls for kidneys."""

import numpy as np

from renalnet.data.images.volume import Grid, Volume
from renalnet.localiser.coarse_scan import CoarseScan


def a_scan() -> CoarseScan:
    """Fat with two bright balls, the left one larger."""
    shape = (50, 60, 66)
    z, y, x = np.indices(shape)
    sides = np.zeros(shape, np.uint8)
    sides[(z - 25) ** 2 + (y - 35) ** 2 + (x - 46) ** 2 < 64] = 1
    sides[(z - 23) ** 2 + (y - 35) ** 2 + (x - 20) ** 2 < 49] = 2
    image = np.where(sides > 0, 180, -100).astype(np.int16)
    grid = Grid.axis_aligned(shape, (6.0, 6.0, 6.0))
    return CoarseScan("balls", Volume(image, grid), Volume(sides, grid))
