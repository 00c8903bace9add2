"""Flips, drawn from a generator and applied while a crop is copied."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_INNERMOST: Final = 2


@dataclass(frozen=True)
class Flips:
    """Which axes (z, y, x) are reversed."""

    axes: tuple[int, ...]

    def outer(self, out: NDArray[Any]) -> NDArray[Any]:
        """A view of `out` (z, y, x): what is written to it comes to lie reversed along z and y."""
        return np.flip(out, tuple(axis for axis in self.axes if axis != _INNERMOST))

    def inner(self, out: Tensor) -> None:
        """Reverse `out` (z, y, x) along x in place; five times as fast as writing through a reversed view."""
        if _INNERMOST in self.axes:
            out.copy_(out.flip(_INNERMOST))


NO_FLIPS: Final = Flips(())


def draw_flips(generator: np.random.Generator) -> Flips:
    """Each axis with probability one half."""
    return Flips(tuple(int(axis) for axis in np.flatnonzero(generator.integers(0, 2, size=3))))
