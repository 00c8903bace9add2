"""Findings of the kidneys in wide cohorts: cysts, stones and stents."""

from typing import Final

import numpy as np
from scipy import ndimage

from renalnet.config import LabelSet
from renalnet.data.phantom.body import Canvas
from renalnet.data.phantom.coordinates import BodyCoordinates, ball_around
from renalnet.types import BACKGROUND, LabelArray, MaskArray

_CYST_MM: Final = (3.0, 24.0)
"""Range of the radii of cysts."""
_CYST_HU: Final = (-4.0, 22.0)
_STONE_MM: Final = (1.5, 6.0)
_STONE_HU: Final = (250.0, 1300.0)
_STENT_MM: Final = 1.6
_STENT_HU: Final = 1600.0


def add_cysts(
    label: LabelArray,
    space: BodyCoordinates,
    forbidden: MaskArray,
    labels: LabelSet,
    count: int,
    rng: np.random.Generator,
) -> MaskArray:
    """Draw cysts on the surface of or inside kidneys, and add them to the label of the kidney, as KiTS19 does.

    Args:
        label: label map (z, y, x); changed in place, unless `forbidden` holds every voxel.
        space: coordinates of its voxels.
        forbidden: voxels (z, y, x) by which a cyst may not enlarge the kidney.
        labels: meaning of the values.
        count: number of cysts.
        rng: generator of places and sizes.

    Returns:
        Mask of the cysts (z, y, x).
    """
    value = labels.kidney.value
    mask = np.zeros(label.shape, bool)
    places = np.flatnonzero(label == value)
    for _ in range(count if places.size else 0):
        centre = np.unravel_index(int(rng.choice(places)), label.shape)
        # Small cysts are the most frequent ones.
        low, high = np.log(_CYST_MM)
        ball = ball_around(label.shape, centre, space.spacing_mm, float(np.exp(rng.uniform(low, high))))
        mask |= ball & ((label == value) | ((label == BACKGROUND) & ~forbidden))
    label[mask] = value
    return mask


def paint_cysts(canvas: Canvas, cysts: MaskArray, rng: np.random.Generator) -> None:
    """Paint each connected cyst as fluid."""
    pieces, count = ndimage.label(cysts)
    means = np.concatenate([[0.0], rng.uniform(*_CYST_HU, count)]).astype(np.float32)
    canvas.hu[cysts] = means[pieces[cysts]]


def paint_stones(canvas: Canvas, kidney: MaskArray, rng: np.random.Generator) -> None:
    """Paint one to three stones in and beside the kidneys; `kidney` is their mask (z, y, x)."""
    places = np.flatnonzero(kidney)
    for _ in range(int(rng.integers(1, 4))):
        centre = np.unravel_index(int(rng.choice(places)), kidney.shape)
        stone = ball_around(kidney.shape, centre, canvas.space.spacing_mm, float(rng.uniform(*_STONE_MM)))
        canvas.hu[stone] = float(rng.uniform(*_STONE_HU))


def paint_stent(canvas: Canvas, kidney: MaskArray, rng: np.random.Generator) -> None:
    """Paint a stent from the middle of one kidney down to the bladder; `kidney` is the mask of the kidneys."""
    space = canvas.space
    outwards = 1 if rng.random() < 0.5 else -1
    side = kidney & (space.x * outwards > 0)
    if not side.any():
        return
    z = np.broadcast_to(space.z, space.shape)
    start = (float(z[side].mean()), float(space.y[side].mean()), float(space.x[side].mean()) - 14 * outwards)
    bend = (start[0] - 50, start[1] - 4, start[2] * 0.6)
    for ends in ((start, bend), (bend, (-220.0, 0.0, 6.0 * outwards))):
        # Wide enough that a voxel shows it.
        region, mask = space.tube(*ends, max(_STENT_MM, 0.5 * max(space.spacing_mm)))
        canvas.hu[region][mask] = _STENT_HU
