"""The abdomen around the kidneys: wall, fat, spine, muscles, bowel, liver, spleen and great vessels, in HU.

Coordinates are those of `BodyCoordinates`. Every organ varies in place and size between cases. Numbers without a name
are lengths in mm or ratios of lengths.
"""

from dataclasses import dataclass

import numpy as np

from renalnet.data.phantom.coordinates import BodyCoordinates, Region
from renalnet.data.phantom.imaging import tissue
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.types import FloatArray, MaskArray, Triple

VERTEBRA_MM = 36.0
"""Height of a lumbar vertebra with its disc."""


@dataclass(frozen=True)
class Habitus:
    """Build of one patient; all lengths are in mm."""

    half_width: float
    """Half the width of the body."""
    half_depth: float
    """Half the extent from front to back."""
    skin_fat: float
    """Thickness of the fat under the skin."""
    wall: float
    """Thickness of the abdominal wall."""
    perirenal_fat: float
    """Thickness of the fat around the kidneys."""
    spread: float = 1.0
    """Factor of the variation of organs in place and size."""
    bowel_fat: float = 0.25
    """Level of a random field of standard deviation 1 up to which there is fat between loops of the bowel."""


@dataclass(frozen=True)
class Canvas:
    """The image that is being painted, and the masks that later organs respect; arrays are (z, y, x)."""

    space: BodyCoordinates
    hu: FloatArray
    """CT numbers, changed in place."""
    firm: MaskArray
    """Mask of muscle and bone, into which perirenal fat spreads less."""
    texture: FloatArray
    """Fine random field of standard deviation 1 that makes tissues uneven."""
    enhancement: tissue.Enhancement
    """CT numbers of the patient's tissues."""
    habitus: Habitus
    """Build of the patient."""

    def fill(self, region: Region, mask: MaskArray, mean_hu: float, spread_hu: float = 5.0) -> None:
        """Paint a tissue of a mean and a standard deviation where `mask`, a mask of the box `region`, is set."""
        self.hu[region][mask] = mean_hu + spread_hu * self.texture[region][mask]

    def fill_firm(self, region: Region, mask: MaskArray, mean_hu: float, spread_hu: float = 5.0) -> None:
        """Paint muscle or bone like `fill`, and add it to `firm`."""
        self.fill(region, mask, mean_hu, spread_hu)
        self.firm[region][mask] = True


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """Draw a build; broad ones carry more fat."""
    weight = float(rng.uniform(0, 1))
    return Habitus(
        half_width=146 + 24 * weight + float(rng.uniform(-4, 4)),
        half_depth=103 + 20 * weight + float(rng.uniform(-4, 4)),
        skin_fat=7 + 17 * weight,
        wall=float(rng.uniform(10, 15)),
        perirenal_fat=3 + 7 * weight + float(rng.uniform(-1, 2)),
    )


def depth_below_skin(space: BodyCoordinates, habitus: Habitus) -> FloatArray:
    """Return the approximate depth in mm of each voxel below the skin, (z, y, x); negative outside the body."""
    across = np.abs(space.x) / habitus.half_width
    forwards = np.abs(space.y) / habitus.half_depth
    # The exponent gives a cross-section between an ellipse (2) and a box (infinity), as bodies have.
    radius = (across**2.4 + forwards**2.4) ** (1 / 2.4)
    return np.asarray((1 - radius) * (habitus.half_width + habitus.half_depth) / 2, dtype=np.float32)


def paint_body(
    space: BodyCoordinates,
    depth_mm: FloatArray,
    habitus: Habitus,
    enhancement: tissue.Enhancement,
    rng: np.random.Generator,
) -> Canvas:
    """Return a canvas with the whole abdomen but the kidneys; `depth_mm` is that of `depth_below_skin`."""
    texture = smooth_field(rng, space.shape, space.spacing_mm, 6.0)
    canvas = Canvas(space, enhancement.fat + 9 * texture, np.zeros(space.shape, bool), texture, enhancement, habitus)
    cavity = depth_mm > habitus.skin_fat + habitus.wall
    # Later organs paint over earlier ones, so firm tissues come after soft ones.
    _paint_bowel(canvas, cavity, rng)
    _paint_upper_organs(canvas, cavity, rng)
    _paint_lungs(canvas, cavity, rng)
    _paint_wall(canvas, depth_mm, rng)
    _paint_great_vessels(canvas, rng)
    _paint_back_muscles(canvas, rng)
    _paint_spine(canvas, rng)
    # This comes last, because muscles and bones are not clipped to the body.
    canvas.hu[depth_mm < 0] = tissue.AIR_HU
    return canvas


def _everywhere() -> Region:
    return slice(None), slice(None), slice(None)


def _moved(rng: np.random.Generator, point: Triple, by_mm: float) -> Triple:
    z, y, x = np.asarray(point) + rng.uniform(-by_mm, by_mm, 3)
    return float(z), float(y), float(x)


def _paint_wall(canvas: Canvas, depth_mm: FloatArray, rng: np.random.Generator) -> None:
    habitus = canvas.habitus
    in_wall = (depth_mm > habitus.skin_fat) & (depth_mm <= habitus.skin_fat + habitus.wall)
    layers = np.abs(depth_mm - habitus.skin_fat - habitus.wall / 2) < 1.2  # fat between the oblique muscles
    canvas.fill_firm(_everywhere(), in_wall & ~layers, canvas.enhancement.muscle, 7)
    space = canvas.space
    # Ribs slant downwards to the sides and the front, one every 30 mm, and end above a costal arch.
    slanted = np.mod(space.z + 0.35 * np.abs(space.x) - 0.3 * space.y + rng.uniform(0, 30), 30.0)
    ribs = in_wall & layers & (slanted < 9) & (space.z > 0.2 * np.abs(space.y) + 10)
    canvas.fill_firm(_everywhere(), ribs, 480, 60)
    canvas.fill(_everywhere(), np.asarray((depth_mm > 0) & (depth_mm < 2.0)), 20)  # skin


def _paint_bowel(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    space = canvas.space
    loops = smooth_field(rng, space.shape, space.spacing_mm, 24.0)
    filling = smooth_field(rng, space.shape, space.spacing_mm, 16.0)
    front = cavity & (space.y < 18 - 0.18 * (space.z + 40)) & (space.z < 75)
    # A field near 0 stays fat between the loops; the band above is their wall, and beyond is the lumen.
    canvas.fill(_everywhere(), front & (np.abs(loops) > canvas.habitus.bowel_fat), canvas.enhancement.bowel_wall, 8)
    inside = front & (np.abs(loops) > canvas.habitus.bowel_fat + 0.17)
    canvas.hu[inside] = canvas.enhancement.contents + 22 * filling[inside]
    # Gas collects in front, because patients are scanned on their backs.
    gas = inside & (filling > 0.75) & (space.y < -8)
    canvas.hu[gas] = tissue.GAS_HU
    for side in (-1, 1):
        _paint_colon(canvas, filling, (-40.0, 12.0, side * 108.0), rng)


def _paint_colon(canvas: Canvas, filling: FloatArray, place: Triple, rng: np.random.Generator) -> None:
    centre = _moved(rng, place, 8)
    radius = float(rng.uniform(15, 22))
    region, wall = canvas.space.ellipsoid(centre, (110, radius, radius))
    canvas.fill(region, wall, canvas.enhancement.bowel_wall, 8)
    region, inside = canvas.space.ellipsoid(centre, (107, radius - 3, radius - 3))
    canvas.hu[region][inside] = canvas.enhancement.contents + 15 + 30 * filling[region][inside]
    gas = inside & ((filling[region] > 1.1) | (canvas.space.y[region] < centre[1] - 0.45 * radius))
    canvas.hu[region][gas] = tissue.GAS_HU


def _paint_upper_organs(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    enhancement = canvas.enhancement
    spread = canvas.habitus.spread
    # The stomach comes first, so that liver, spleen and pancreas cover it where they overlap.
    _paint_stomach(canvas, cavity, rng)
    scale = rng.uniform(1 - 0.1 * spread, 1 + 0.1 * spread, 3)
    organs = (
        ((75.0, -18.0, -72.0), (92 * scale[0], 88.0, 74.0), enhancement.liver),
        ((82.0, -52.0, -12.0), (50 * scale[1], 42.0, 72.0), enhancement.liver),
        ((78.0, 34.0, 104.0), (55 * scale[2], 44.0, 30.0), enhancement.spleen),
        ((32.0, -2.0, 42.0), (13.0, 13.0, 42.0), enhancement.pancreas),  # pancreas, body and tail
        ((16.0, -4.0, -22.0), (24.0, 15.0, 20.0), enhancement.pancreas),  # pancreas, head
    )
    for centre, radii, mean_hu in organs:
        region, mask = canvas.space.ellipsoid(_moved(rng, centre, 9 * spread), radii)
        canvas.fill(region, mask & cavity[region], mean_hu, 4)
    _paint_liver_vessels(canvas, cavity, rng)


def _paint_liver_vessels(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    # Smaller than the liver, whose place varies by 9 mm, so that vessels stay inside it.
    region, mask = canvas.space.ellipsoid((80, -18, -70), (70, 70, 60))
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    tree = smooth_field(rng, shape, canvas.space.spacing_mm, 26.0)
    other = smooth_field(rng, shape, canvas.space.spacing_mm, 22.0)
    # The zeros of one random field are sheets; those of two fields cross in tubes.
    vessels = mask & cavity[region] & (tree * tree + other * other < 0.012)
    canvas.fill(region, vessels, canvas.enhancement.vein)


def _paint_stomach(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    centre = _moved(rng, (70, -38, 58), 8)
    size = rng.uniform(0.8, 1.15)
    region, wall = canvas.space.ellipsoid(centre, (48 * size, 34 * size, 42 * size))
    canvas.fill(region, wall & cavity[region], canvas.enhancement.bowel_wall + 10, 8)
    region, inside = canvas.space.ellipsoid(centre, (43 * size, 29 * size, 37 * size))
    inside &= cavity[region]
    canvas.fill(region, inside, canvas.enhancement.contents, 12)
    level = centre[1] - rng.uniform(0, 14)  # gas rises to the front, because patients are scanned on their backs
    canvas.hu[region][inside & (canvas.space.y[region] < level)] = tissue.GAS_HU


def _paint_lungs(canvas: Canvas, cavity: MaskArray, rng: np.random.Generator) -> None:
    space = canvas.space
    top = float(rng.uniform(122, 140))
    # A paraboloid on each side, as the diaphragm has two domes.
    dome = top - 0.0052 * ((np.abs(space.x) - 55) ** 2 + space.y**2)
    lungs = cavity & (space.z > dome)
    canvas.hu[lungs] = tissue.LUNG_HU + 25 * canvas.texture[lungs]


def _paint_great_vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    enhancement = canvas.enhancement
    radius = float(rng.uniform(8.5, 11.5))
    tubes = (
        # A radius of 1e4 mm makes an ellipsoid a tube through any field of view.
        ((0.0, 22.0, 9.0), (1e4, radius, radius), enhancement.aorta),
        ((0.0, 18.0, -20.0), (1e4, radius * 0.9, radius * 1.2), enhancement.cava),
    )
    for centre, radii, mean_hu in tubes:
        region, mask = canvas.space.ellipsoid(_moved(rng, centre, 2), radii)
        canvas.fill(region, mask, mean_hu, 4)


def _paint_back_muscles(canvas: Canvas, rng: np.random.Generator) -> None:
    size = rng.uniform(0.85, 1.15)
    for side in (-1, 1):
        muscles = (
            ((-140.0, 50.0, side * 37.0), (190.0, 19 * size, 17 * size)),  # psoas, widening downwards
            ((0.0, 84.0, side * 32.0), (1e4, 17 * size, 27 * size)),  # erector spinae
            ((-60.0, 70.0, side * 68.0), (110.0, 8 * size, 20 * size)),  # quadratus lumborum
        )
        for centre, radii in muscles:
            region, mask = canvas.space.ellipsoid(_moved(rng, centre, 2), radii)
            # Ribs and the aorta, which are brighter, keep their voxels.
            canvas.fill_firm(region, mask & (canvas.hu[region] < 200), canvas.enhancement.muscle, 7)


def _paint_spine(canvas: Canvas, rng: np.random.Generator) -> None:
    centre = (0.0, 50.0, 0.0)
    region = canvas.space.around(centre, (1e4, 70, 60))
    z, y, x = canvas.space.offsets(region, centre)
    phase = np.mod(z + rng.uniform(0, VERTEBRA_MM), VERTEBRA_MM)
    disc = phase < 8
    radius = np.sqrt((y / 18) ** 2 + (x / 24) ** 2)
    waist = 1 - 0.06 * np.sin(np.pi * np.clip((phase - 8) / (VERTEBRA_MM - 8), 0, 1))
    body = radius < waist
    canvas.fill_firm(region, body, canvas.enhancement.cancellous, 45)
    # Compact bone is the shell of a vertebra and the end plate beside the disc.
    canvas.fill_firm(region, body & ((radius > waist - 0.09) | (phase < 10)), canvas.enhancement.compact, 60)
    canvas.fill_firm(region, (radius < 1.02) & disc, tissue.DISC_HU, 8)
    from_canal = np.sqrt((y - 28) ** 2 + x**2)
    arch = ((from_canal > 10) & (from_canal < 15) & (y > 17)) | ((np.abs(x) < 4) & (y > 40) & (y < 62))
    reach = 38 - 1.5 * np.abs(phase - 22)
    wings = (np.abs(y - 22 - 0.15 * np.abs(x)) < 4) & (np.abs(x) > 10) & (np.abs(x) < reach) & (np.abs(phase - 22) < 5)
    canvas.fill_firm(region, (arch & (phase > 12)) | wings, canvas.enhancement.compact - 220, 90)
    canvas.fill_firm(region, np.asarray(from_canal < 9.5), tissue.CANAL_HU, 5)
