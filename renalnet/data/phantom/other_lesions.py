"""Synthetic lesions beside the tumor, such as cysts: balls that lie in a kidney or bulge from it."""

from typing import Final

import numpy as np

from renalnet.config import Label, PhantomConfig
from renalnet.data.phantom.coordinates import BodyCoordinates, ball_around
from renalnet.types import BACKGROUND, LabelArray, MaskArray

_RADIUS_MM: Final = (5.0, 14.0)
"""Range of the radii. Simple cysts of the kidney are mostly 1 to 3 cm wide."""


def add_other_lesions(
    label: LabelArray, space: BodyCoordinates, forbidden: MaskArray, config: PhantomConfig, index: int
) -> None:
    """Write lesions into the kidneys of `label`: a share of the cases has each lesion of the set beside the tumor.

    A lesion replaces kidney and background, never a tumor or another lesion. It has a generator of its own, so that the
    kidneys and tumors of a case do not depend on the label set.

    Args:
        label: label map (z, y, x); changed in place.
        space: coordinates of its voxels.
        forbidden: voxels (z, y, x) that no lesion may reach.
        config: settings of the cohort.
        index: number of the case.
    """
    for lesion in config.labels.lesions:
        rng = np.random.default_rng([config.seed, index, 10, lesion.value])
        if lesion != config.labels.tumor and rng.random() < config.other_lesion_share:
            _add_ball(label, lesion, space, forbidden, config, rng)


def _add_ball(
    label: LabelArray,
    lesion: Label,
    space: BodyCoordinates,
    forbidden: MaskArray,
    config: PhantomConfig,
    rng: np.random.Generator,
) -> None:
    kidney = np.flatnonzero(label == config.labels.kidney.value)
    centre = np.unravel_index(int(rng.choice(kidney)), label.shape)
    ball = ball_around(label.shape, centre, space.spacing_mm, float(rng.uniform(*_RADIUS_MM)))
    is_free = (label == BACKGROUND) | (label == config.labels.kidney.value)
    label[ball & is_free & ~forbidden] = lesion.value
