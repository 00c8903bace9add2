"""Independent streams of random numbers by purpose and place, so that nothing depends on what was drawn before."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; streams of different purposes never meet."""

    PATIENTS = 0
    """The order of the patients in a pass."""
    CROP = 1
    """Where a crop lies and how it is flipped."""
    AUGMENTATION = 2
    """How a crop is changed beyond that."""


def stream(seed: int, purpose: Purpose, place: int) -> np.random.Generator:
    """The generator of a purpose at a place (a pass, a crop), the same whenever it is asked for."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, place)))
