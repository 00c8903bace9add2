"""Flips, drawn from a generator and applied while a crop is copied."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Flips:
    """Which axes (z, y, x) are reversed."""

    axes: tuple[int, ...]

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """A reversed view of an array (z, y, x); nothing is copied."""
        return np.flip(array, self.axes)


NO_FLIPS: Final = Flips(())


def draw_flips(generator: np.random.Generator) -> Flips:
    """Each axis with probability one half."""
    return Flips(tuple(int(axis) for axis in np.flatnonzero(generator.integers(0, 2, size=3))))
