"""A case of the small cohorts: a bright ball (kidney) with a darker ball in it (tumor), in noise."""

import numpy as np

from renalnet.data.images.volume import Grid
from renalnet.data.store.reader import Roi
from renalnet.types import Split
from support.label_values import KIDNEY, TUMOR

SHAPE = (16, 20, 20)


def ball_roi(case: str, split: Split, seed: int, scale: int = 1) -> Roi:
    """Return a kidney of radius 6 voxels with a tumor of radius 3, at 2 mm, both times `scale`."""
    shape = tuple(scale * length for length in SHAPE)
    generator = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + scale * generator.uniform(-1, 1, 3)
    axes = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    label = np.zeros(shape, np.uint8)
    label[np.linalg.norm(axes - centre, axis=-1) < 6 * scale] = KIDNEY
    label[np.linalg.norm(axes - centre - (0, 3 * scale, 0), axis=-1) < 3 * scale] = TUMOR
    image = np.choose(label, [-100, 200, 60]) + generator.normal(0, 15, shape)
    grid = Grid.axis_aligned(shape, (2.0, 2.0, 2.0))
    return Roi(case, split, image.astype(np.int16), label, grid, grid)
