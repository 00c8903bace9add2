"""Surroundings of kidneys and abdomen in wide cohorts: organs and muscles beside them, heart, pelvis, arms, the table.

They are what a network may take for a kidney or a tumor, or what the field of view of a real scan shows beside the
abdomen.
Coordinates are those of `BodyCoordinates`; numbers without a name are lengths in mm.
"""

from collections.abc import Sequence

import numpy as np

from renalnet.data.phantom.body import Canvas
from renalnet.data.phantom.imaging import tissue
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.types import FloatArray, MaskArray, Triple

_RIB_HU = 300.0
"""CT number from which a voxel is bone of a rib."""
_NEIGHBOR_SHARE = 0.75
"""Share of the cases whose spleen, and whose liver, reaches the kidney."""
_FAR_MM = 1e4
"""Half axis that makes an ellipsoid a tube through any field of view."""


def paint_inside(canvas: Canvas, depth_mm: FloatArray, rng: np.random.Generator) -> None:
    """Paint what touches the kidneys, and heart and pelvis where the field of view reaches them.

    Args:
        canvas: the abdomen, before its kidneys are painted.
        depth_mm: depth below the skin (z, y, x).
        rng: generator of all draws.
    """
    cavity = (depth_mm > canvas.habitus.skin_fat + canvas.habitus.wall) & ~canvas.firm
    _paint_upper_neighbors(canvas, cavity, rng)
    _paint_adrenals(canvas, cavity, rng)
    _paint_back(canvas, depth_mm > canvas.habitus.skin_fat, rng)
    inside = depth_mm > 4
    _paint_heart(canvas, inside, rng)
    _paint_pelvis(canvas, inside, rng)


def paint_outside(canvas: Canvas, depth_mm: FloatArray, *, has_arms: bool, rng: np.random.Generator) -> None:
    """Paint the table of the scanner below the body, and arms beside it."""
    space = canvas.space
    bottom = canvas.habitus.half_depth + float(rng.uniform(-6, 6))
    curve = 0.0006 * float(rng.uniform(0, 1.4)) * space.x**2
    from_table = space.y - bottom + curve
    outside = depth_mm < -1
    top = outside & (from_table > 0) & (from_table < float(rng.uniform(2, 6)))
    foam = outside & (from_table >= 0) & (from_table < float(rng.uniform(20, 45)))
    canvas.hu[foam & (canvas.hu <= tissue.AIR_HU)] = float(rng.uniform(-990, -850))
    canvas.hu[top] = float(rng.uniform(-300, 150))
    if has_arms:
        _paint_arms(canvas, outside, rng)


def _paint(canvas: Canvas, centre: Triple, radii: Triple, inside: MaskArray, mean_hu: float, spread: float = 6) -> None:
    region, mask = canvas.space.ellipsoid(centre, radii)
    canvas.fill(region, mask & inside[region], mean_hu, spread)


def _paint_upper_neighbors(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    """Paint spleen and right lobe of the liver so that they reach behind and below the upper poles, as in slim people.

    Both are absent in a part of the cases, where those of the body alone are seen.
    """
    organs = (
        (((50, 100), (25, 58), (52, 98)), ((42, 80), (28, 50), (24, 44)), canvas.enhancement.spleen),
        (((30, 90), (8, 48), (-108, -62)), ((60, 120), (38, 66), (34, 58)), canvas.enhancement.liver),
    )
    for centres, sizes, mean_hu in organs:
        centre, radii = _drawn(centres, rng), _drawn(sizes, rng)
        if rng.random() < _NEIGHBOR_SHARE:
            _paint(canvas, centre, radii, cavity, mean_hu, 4)


def _paint_adrenals(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    """Paint an adrenal gland above each kidney: two thin limbs."""
    for side in (-1, 1):
        top, back, across = _drawn(((58, 92), (18, 40), (30, 50)), rng)
        thick = float(rng.uniform(2.5, 5))
        for limb in (-1, 1):
            _paint(
                canvas, (top, back, side * across + 5 * limb), (16, 12, thick), cavity, canvas.enhancement.muscle + 15
            )


def _paint_back(canvas: Canvas, inside: MaskArray, rng: np.random.Generator) -> None:
    """Paint back muscles of another size, with layers of fat between their bundles."""
    fat = smooth_field(rng, canvas.space.shape, canvas.space.spacing_mm, float(rng.uniform(7, 14)))
    layer = float(rng.uniform(0.0, 0.25))
    sizes = _drawn(((17, 27), (27, 40), (9, 19)), rng)
    space = canvas.space
    spine = ((space.x / 27) ** 2 + ((space.y - 50) / 32) ** 2 < 1) | (np.abs(space.x) < 7)
    for side in (-1, 1):
        muscles = (
            ((0.0, 66 + sizes[0], side * sizes[1]), (_FAR_MM, sizes[0], sizes[1])),
            ((-60.0, 68.0, side * 66), (120.0, sizes[2], 1.6 * sizes[2])),
        )
        for centre, radii in muscles:
            region, mask = space.ellipsoid(centre, radii)
            mask &= inside[region] & ~spine[region] & (canvas.hu[region] < _RIB_HU)
            canvas.fill_firm(region, mask, canvas.enhancement.muscle, 7)
            canvas.fill(region, mask & (np.abs(fat[region]) < layer), canvas.enhancement.fat + 30)


def _drawn(ranges: Sequence[tuple[float, float]], rng: np.random.Generator) -> Triple:
    first, second, third = (float(rng.uniform(low, high)) for low, high in ranges)
    return first, second, third


def _paint_heart(canvas: Canvas, inside: MaskArray, rng: np.random.Generator) -> None:
    place = 180 + float(rng.uniform(-15, 15))
    enhancement = canvas.enhancement
    _paint(canvas, (place, -25, 25), (50, 48, 58), inside, enhancement.muscle + 25)
    _paint(canvas, (place + 4, -30, 0), (36, 30, 30), inside, enhancement.vein)
    _paint(canvas, (place - 2, -22, 42), (32, 28, 24), inside, enhancement.aorta)


def _paint_pelvis(canvas: Canvas, inside: MaskArray, rng: np.random.Generator) -> None:
    """Paint sacrum, iliac bones, hips, gluteal muscles and the bladder, below the lumbar spine."""
    enhancement = canvas.enhancement
    crest = -95 + float(rng.uniform(-15, 15))
    for side in (-1, 1):
        _paint(canvas, (crest - 90, 62, side * 72), (95, 32, 48), inside, enhancement.muscle, 8)
        _paint_blade(canvas, crest, side, inside)
        _paint(canvas, (crest - 150, 12, side * 88), (24, 24, 24), inside, enhancement.cancellous + 90, 30)
    _paint(canvas, (crest - 60, 66, 0), (62, 22, 44), inside, enhancement.cancellous, 40)
    fill = float(rng.uniform(0.5, 1.2))
    _paint(canvas, (crest - 130, -12, 0), (34 * fill, 32 * fill, 40 * fill), inside, enhancement.urine, 3)


def _paint_blade(canvas: Canvas, crest: float, side: int, inside: MaskArray) -> None:
    """Paint an iliac bone: the shell of an ellipsoid, with marrow between two layers of compact bone."""
    centre = (crest - 75, 30, side * 60)
    region = canvas.space.around(centre, (80, 62, 50))
    z, y, x = canvas.space.offsets(region, centre)
    radius = np.sqrt((z / 78) ** 2 + (y / 58) ** 2 + (x / 44) ** 2)
    # Only the outer half of the shell is bone; the inner one is open to the pelvis.
    shell = (np.abs(radius - 0.93) < 0.1) & (x * side > -6) & inside[region]
    canvas.fill(region, shell, canvas.enhancement.cancellous + 40, 40)
    canvas.fill(region, shell & (np.abs(radius - 0.93) > 0.06), canvas.enhancement.compact * 0.75, 60)


def _paint_arms(canvas: Canvas, outside: MaskArray, rng: np.random.Generator) -> None:
    space = canvas.space
    for side in (-1, 1):
        across = side * (canvas.habitus.half_width + float(rng.uniform(34, 48)))
        centre = (0.0, float(rng.uniform(-20, 50)), across)
        radius = float(rng.uniform(28, 42))
        for share, mean_hu in ((1.0, canvas.enhancement.fat), (0.85, canvas.enhancement.muscle)):
            region, mask = space.ellipsoid(centre, (_FAR_MM, radius * share, radius * share))
            canvas.fill(region, mask & outside[region], mean_hu)
        region, bone = space.ellipsoid(centre, (_FAR_MM, 11, 11))
        canvas.fill(region, bone & outside[region], canvas.enhancement.compact, 60)
        region, marrow = space.ellipsoid(centre, (_FAR_MM, 6, 6))
        canvas.fill(region, marrow & outside[region], canvas.enhancement.fat + 60)
