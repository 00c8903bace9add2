"""Grids in every order and direction of the axes, and an oblique grid."""

import itertools

import numpy as np

from renalnet.data.images.volume import Grid

ORIENTATIONS = [
    (axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]
SIZE = (5, 6, 7)
SPACING = (0.7, 0.8, 2.5)
ORIGIN = (-31.5, 12.25, 100.0)


def oriented_grid(axes: tuple[int, ...], flips: tuple[int, ...]) -> Grid:
    """Return a grid whose index axis i runs along world axis axes[i], forwards or backwards."""
    direction = np.zeros((3, 3))
    direction[list(axes), range(3)] = flips
    return Grid(SIZE, SPACING, ORIGIN, tuple(direction.ravel().tolist()))


def oblique_grid() -> Grid:
    """Return a grid that is rotated about z, then about x."""
    c = np.cos(0.3)
    s = np.sin(0.3)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return Grid(SIZE, SPACING, ORIGIN, tuple(direction.ravel().tolist()))
