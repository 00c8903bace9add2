"""Surroundings of the abdomen in wide cohorts: heart, pelvis, arms and the table of the scanner.

They are what a localiser may take for a kidney, or what the field of view of a real scan shows beside the abdomen.
Coordinates are those of `BodyCoordinates`; numbers without a name are lengths in mm.
"""

import numpy as np

from renalnet.data.phantom.body import Canvas
from renalnet.data.phantom.imaging import tissue
from renalnet.types import FloatArray, MaskArray, Triple

_FAR_MM = 1e4
"""Half axis that makes an ellipsoid a tube through any field of view."""


def paint_inside(canvas: Canvas, depth_mm: FloatArray, rng: np.random.Generator) -> None:
    """Paint heart and pelvis, where the field of view reaches them; `depth_mm` is the depth below the skin."""
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
