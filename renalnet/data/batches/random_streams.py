"""Independent random streams by purpose and place, so that no draw depends on earlier draws."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purpose of a stream; streams of different purposes are independent."""

    CASES = 0
    """Order of the cases in a pass."""
    CROP = 1
    """Location and flips of a crop."""
    AUGMENTATION = 2
    """Augmentation of a crop."""


def stream(seed: int, purpose: Purpose, place: int) -> np.random.Generator:
    """Return the generator of a purpose at a place (number of a pass or a crop); the same for every call."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, place)))
