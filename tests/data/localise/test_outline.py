"""The outline of a ball in fat, with tumors, organs and vessels that adjoin it."""

import numpy as np
import pytest

from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.consensus import Consensus
from renalnet.data.localise.outline import cut_region, outline_kidney
from renalnet.types import FloatArray, MaskArray

GRID = Grid.axis_aligned((64, 64, 64), (3.0, 3.0, 3.0))
COARSE = Grid.axis_aligned((32, 32, 32), (6.0, 6.0, 6.0), (1.5, 1.5, 1.5))
KIDNEY = 170.0
TUMOR = 40.0


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> MaskArray:
    z, y, x = np.meshgrid(*(np.arange(64) * 3.0,) * 3, indexing="ij")
    return np.asarray((z - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (x - centre_mm[2]) ** 2 < radius_mm**2)


def outline(hu: FloatArray, other: FloatArray | None = None) -> MaskArray:
    """Return the outline, on GRID, of a kidney that the atlases expect as a central ball with a radius of 21 mm."""
    expected = ball((94.0, 94.0, 94.0), 21)[::2, ::2, ::2].astype(np.float32)
    others = np.zeros_like(expected) if other is None else other[::2, ::2, ::2]
    image = Volume(np.rint(hu).astype(np.int16), GRID)
    region = cut_region(image, COARSE, Consensus(expected, others, 1.0))
    found = np.zeros(GRID.shape, bool)
    first = np.rint(np.array(region.grid.origin_mm) / 3).astype(int)
    found[tuple(slice(a, a + n) for a, n in zip(first, region.grid.shape, strict=True))] = outline_kidney(region).kidney
    return found


def fat() -> FloatArray:
    return np.full(GRID.shape, -100.0, np.float32)


def dice(first: MaskArray, second: MaskArray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("kidney_hu", [170.0, 30.0])
def test_a_kidney_in_fat_is_outlined_whatever_its_enhancement(kidney_hu: float) -> None:
    kidney, hu = ball((94, 94, 94), 25), fat()
    hu[kidney] = kidney_hu
    assert dice(outline(hu), kidney) > 0.95


def test_a_tumor_is_followed_beyond_where_atlases_have_a_kidney() -> None:
    kidney, tumor, hu = ball((94, 94, 94), 25), ball((94, 94, 134), 24), fat()
    hu[tumor] = TUMOR
    hu[kidney] = KIDNEY
    assert dice(outline(hu), kidney | tumor) > 0.9


def test_a_tumor_is_not_taken_for_the_organ_that_atlases_have_there() -> None:
    kidney, tumor, hu = ball((94, 94, 94), 25), ball((94, 94, 134), 24), fat()
    hu[tumor] = TUMOR
    hu[kidney] = KIDNEY
    assert dice(outline(hu, (tumor & ~kidney).astype(np.float32)), kidney | tumor) > 0.9


def test_a_touching_organ_is_left_out() -> None:
    kidney, organ, hu = ball((94, 94, 94), 25), ball((94, 94, 174), 58), fat()
    hu[organ] = 60.0
    hu[kidney] = KIDNEY
    found = outline(hu, (organ & ~kidney).astype(np.float32))
    assert dice(found, kidney) > 0.9


def test_a_vessel_is_left_out() -> None:
    kidney, hu = ball((94, 94, 94), 25), fat()
    hu[30:33, 30:33, :] = KIDNEY
    hu[kidney] = KIDNEY
    assert dice(outline(hu), kidney) > 0.95


def test_fat_alone_has_no_outline() -> None:
    assert not outline(fat()).any()


def test_a_thin_kidney_beside_a_large_leak_stays() -> None:
    middle, hu = ball((94, 94, 94), 9), fat()
    stalk = np.zeros(GRID.shape, bool)
    stalk[28:36, 28:36, 28:40] = True
    hu[stalk | ball((94, 94, 146), 33)] = TUMOR
    assert outline(hu)[middle].all()


@pytest.mark.parametrize("seed", range(8))
def test_an_outline_overlaps_the_expected_kidney(seed: int) -> None:
    generator, expected, hu = np.random.default_rng(seed), ball((94, 94, 94), 21), fat()
    for _ in range(6):
        centre, radius_mm = generator.uniform(40, 150, 3), generator.uniform(8, 50)
        hu[ball((centre[0], centre[1], centre[2]), radius_mm)] = generator.uniform(-60, 250)
    found = outline(hu)
    assert (found & expected).any() == found.any()


def test_a_thin_end_longer_than_a_pole_is_left_out() -> None:
    kidney, hu = ball((94, 94, 94), 25), fat()
    hu[31:60, 28:35, 28:35] = KIDNEY  # 21 mm thick: too thick for a vessel, too thin for a pole this long
    hu[kidney] = KIDNEY
    filled = np.flatnonzero(outline(hu).any(axis=(1, 2)))
    assert filled[-1] * 3 <= 94 + 25 + 9
