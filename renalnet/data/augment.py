"""Augmentation in two halves: draw parameters from a generator, then apply them deterministically."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renalnet.types import HuArray, LabelArray


@dataclass(frozen=True)
class Flips:
    """Which axes (z, y, x) are reversed."""

    axes: tuple[int, ...]

    def apply(self, image: HuArray, label: LabelArray) -> tuple[HuArray, LabelArray]:
        """Both arrays reversed along the same axes; views, nothing is copied."""
        return np.flip(image, self.axes), np.flip(label, self.axes)


def draw_flips(generator: np.random.Generator) -> Flips:
    """Each axis with probability one half."""
    coins: NDArray[np.int64] = generator.integers(0, 2, size=3)
    return Flips(tuple(int(axis) for axis in np.flatnonzero(coins)))
