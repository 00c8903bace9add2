"""Random flips of crops, which are applied while a crop is copied."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Flips:
    """The axes along which a crop is reversed."""

    axes: tuple[int, ...]
    """Numbers of the reversed axes of (z, y, x)."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a reversed view of an array (z, y, x) without a copy."""
        return np.flip(array, self.axes)


NO_FLIPS: Final = Flips(())


def draw_flips(generator: np.random.Generator) -> Flips:
    """Draw flips; each axis is reversed with probability one half."""
    return Flips(tuple(int(axis) for axis in np.flatnonzero(generator.integers(0, 2, size=3))))
