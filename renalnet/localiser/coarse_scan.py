"""Scans on the coarse grid of the localiser: what its network sees, and what it is trained on."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.cases.sides import split_sides
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import FloatArray

COARSE_MM: Final = 6.0
"""Isotropic spacing of the coarse grid."""
HU_RANGE: Final = (-250.0, 550.0)
"""CT numbers that the network distinguishes: fat, soft tissue with and without contrast agent, and bone."""


@dataclass(frozen=True)
class CoarseScan:
    """A scan on the coarse grid, with its kidneys; what the network learns from."""

    name: str
    """Name of its case."""
    image: Volume
    """int16 HU (z, y, x), canonical."""
    sides: Volume
    """uint8 on the image's grid: 0 none, 1 left, 2 right kidney, lesions included."""


def coarse_image(image: Volume) -> Volume:
    """Return a canonical scan, int16 HU (z, y, x), on the coarse grid."""
    grid = coarse_grid(image.grid)
    return regrid_image(image, grid, float(image.array.min()))


def coarse_grid(grid: Grid) -> Grid:
    """Return the coarse grid over the field of view of a canonical scan."""
    return covering_grid(grid, (COARSE_MM,) * 3)


def coarse_scan(name: str, image: Volume, body: Volume) -> CoarseScan:
    """Return a case on the coarse grid.

    Args:
        name: name of the case.
        image: canonical scan, int16 HU (z, y, x).
        body: mask of the kidneys and their lesions on the grid of the scan; it may be empty.
    """
    sides = Volume(split_sides(body, image), body.grid)
    return CoarseScan(name, coarse_image(image), regrid_label(sides, coarse_grid(image.grid)))


def scaled(hu: NDArray[np.generic]) -> FloatArray:
    """Return CT numbers as the network takes them: -1 to 1 over `HU_RANGE`."""
    low, high = HU_RANGE
    clipped = np.clip(hu.astype(np.float32), low, high)
    return np.asarray((clipped - low) * (2 / (high - low)) - 1, dtype=np.float32)
