"""Measures of the planning sheet against closed forms at the spacings of real scans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bodies import HALF_AXES_MM, Ball, ball, ellipsoid, ellipsoid_cm2, kidney_with, places

from renalnet.config import KIDNEY_TUMOR
from renalnet.planning import find_kidneys, measure_kidney
from renalnet.planning.area import contact_cm2, surface_cm2
from renalnet.planning.extent import axial_diameter_mm, diameter_mm, largest_diameter_mm, voxel_centres_mm

FINE = (1.0, 0.65, 0.65)
USUAL = (3.0, 0.8, 0.8)
THICK = (5.0, 1.0, 1.0)
SPACINGS = [pytest.param(FINE, marks=pytest.mark.slow), USUAL, THICK]
"""The finest spacing is slow because it has ten times as many voxels."""
LENGTH_WITHIN = {FINE: 0.02, USUAL: 0.02, THICK: 0.03}
CONTACT_WITHIN = {FINE: 0.025, USUAL: 0.04, THICK: 0.07}
EXOPHYTIC = Ball((8.0, -30.0, 0.0), 15.0)
CENTRAL = Ball((5.0, -22.0, 6.0), 15.0)
LARGE = Ball((20.0, -38.0, 5.0), 25.0)
POLAR = Ball((-40.0, -20.0, 5.0), 15.0)
CENTRED = Ball((0.0, 0.0, 0.0), 25.0)
BENEATH = Ball((0.0, -19.5, 0.0), 8.0)
SMALL = Ball((8.0, -30.0, 0.0), 10.0)
AT_THE_END = Ball((-50.0, 0.0, 0.0), 12.0)
COARSE = (4.0, 3.0, 3.0)
BALLS = [EXOPHYTIC, CENTRAL, LARGE, POLAR]


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_areas_of_ellipsoid_and_ball(spacing_mm):
    assert surface_cm2(ellipsoid(spacing_mm), spacing_mm) == pytest.approx(ellipsoid_cm2(), rel=0.01)
    assert surface_cm2(ball(LARGE, spacing_mm), spacing_mm) == pytest.approx(LARGE.cm2, rel=0.01)
    assert surface_cm2(ball(BENEATH, spacing_mm), spacing_mm) == pytest.approx(BENEATH.cm2, rel=0.01)


@pytest.mark.parametrize(("spacing_mm", "within"), [(FINE, 0.04), (USUAL, 0.08), (THICK, 0.14)])
@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (1, 2, 2)])
def test_sharp_edges_are_rounded(spacing_mm, within, normal):
    half = ball(CENTRED, spacing_mm) & (places(spacing_mm) @ np.array(normal) > 0)
    exact_cm2 = 3 * np.pi * CENTRED.radius**2 / 100
    assert 1 - within <= surface_cm2(half, spacing_mm) / exact_cm2 <= 1


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("body", BALLS)
def test_a_kidney_with_a_tumor(body, spacing_mm):
    sheet = measure_kidney(kidney_with(body, spacing_mm))
    tumor = sheet.tumor
    assert tumor is not None
    within = LENGTH_WITHIN[spacing_mm]
    assert tumor.volume_ml == pytest.approx(body.ml, rel=0.02)
    assert tumor.diameter_3d_mm == pytest.approx(2 * body.radius, rel=within)
    assert tumor.diameter_axial_mm == pytest.approx(2 * body.radius, rel=0.02)
    assert tumor.surface_cm2 == pytest.approx(body.cm2, rel=0.01)
    assert tumor.contact_cm2 == pytest.approx(body.contact_cm2, rel=CONTACT_WITHIN[spacing_mm])
    assert tumor.exophytic_share == pytest.approx(body.share_outside, abs=0.02)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_kidney_alone(spacing_mm):
    z, y, x = HALF_AXES_MM
    (kidney,) = find_kidneys(ellipsoid(spacing_mm).astype(np.uint8), spacing_mm, KIDNEY_TUMOR)
    sheet = measure_kidney(kidney)
    assert sheet.side == "kidney"
    assert sheet.kidney_ml == pytest.approx(4 / 3 * np.pi * z * y * x / 1000, rel=0.02)
    assert sheet.kidney_length_mm == pytest.approx(2 * z, rel=0.02)
    assert (sheet.tumor, sheet.tumor_ml, sheet.num_tumors) == (None, 0, 0)
    assert sheet.remaining_share == 1


@pytest.mark.parametrize(("spacing_mm", "within"), [(FINE, 0.01), (USUAL, 0.02), (THICK, 0.02)])
def test_the_diameter_of_a_tumor_of_two_centimetres(spacing_mm, within):
    small = ball(SMALL, spacing_mm)
    assert diameter_mm(small, spacing_mm) == pytest.approx(20, rel=within)
    assert axial_diameter_mm(small, spacing_mm) == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_what_sticks_out_of_a_tumor_counts(spacing_mm):
    """A rod, 8 mm thick, on a ball: the diameter is from its end, 24 mm from the centre, to the ball's far side."""
    from_middle = places(spacing_mm) - EXOPHYTIC.middle
    rod = (np.linalg.norm(from_middle[..., :2], axis=-1) < 4) & (from_middle[..., 2] > 0) & (from_middle[..., 2] < 24)
    body = ball(EXOPHYTIC, spacing_mm) | rod
    exact_mm = EXOPHYTIC.radius + np.hypot(24, 4)
    assert diameter_mm(body, spacing_mm) >= largest_diameter_mm(voxel_centres_mm(body, spacing_mm))
    assert diameter_mm(body, spacing_mm) == pytest.approx(exact_mm, rel=0.03)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 2), (1, 1, 1), (3, 1, 0), (1, 0, 1)])
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_ball_cut_by_a_plane_touches_in_a_disc(spacing_mm, normal):
    """The plane is 7 mm from the centre of a ball of 25 mm radius. The contact is flat and ends in a sharp edge."""
    whole = ball(CENTRED, spacing_mm)
    is_above = places(spacing_mm) @ np.array(normal) > 7 * np.linalg.norm(normal)
    exact_cm2 = np.pi * (CENTRED.radius**2 - 7**2) / 100
    contact = contact_cm2(whole & is_above, whole & ~is_above, spacing_mm)
    assert contact == pytest.approx(exact_cm2, rel=CONTACT_WITHIN[spacing_mm])


@pytest.mark.parametrize("body", [SMALL, AT_THE_END])
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_contacts_that_end_in_a_crease(spacing_mm, body):
    kidney = kidney_with(body, spacing_mm)
    contact = contact_cm2(kidney.kidney, kidney.tumor, spacing_mm)
    assert contact == pytest.approx(body.contact_cm2, rel=CONTACT_WITHIN[spacing_mm])


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", [FINE, USUAL, THICK])
def test_balls_anywhere(spacing_mm):
    """Twenty balls of 8 to 25 mm radius at the front of a kidney: some are inside, some hardly touch it."""
    drawn = np.random.default_rng(5)
    for radius in np.linspace(8, 25, 20):
        body = Ball((drawn.uniform(-45, 45), -drawn.uniform(10, 32), drawn.uniform(-12, 12)), radius)
        kidney = kidney_with(body, spacing_mm)
        contact = contact_cm2(kidney.kidney, kidney.tumor, spacing_mm)
        small_cm2, surface_within = (0.4, 0.04) if spacing_mm == THICK else (0.2, 0.02)
        assert contact == pytest.approx(body.contact_cm2, rel=CONTACT_WITHIN[spacing_mm], abs=small_cm2)
        assert surface_cm2(kidney.tumor, spacing_mm) == pytest.approx(body.cm2, rel=surface_within)
        assert diameter_mm(kidney.tumor, spacing_mm) == pytest.approx(2 * radius, rel=LENGTH_WITHIN[spacing_mm])


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_tumor_just_beneath_the_surface(spacing_mm):
    """Half a millimetre of kidney covers the tumor, less than a voxel, so the shell has holes."""
    tumor = measure_kidney(kidney_with(BENEATH, spacing_mm)).tumor
    assert tumor is not None
    assert tumor.contact_cm2 == pytest.approx(BENEATH.cm2, rel=0.02)
    assert tumor.exophytic_share == pytest.approx(0, abs=0.02)
    assert tumor.exophytic_points == 3


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(before=st.tuples(*[st.integers(0, 9)] * 3), behind=st.tuples(*[st.integers(0, 9)] * 3))
def test_the_place_in_the_volume_changes_nothing(before, behind):
    kidney = kidney_with(CENTRAL, COARSE)
    (moved,) = find_kidneys(np.pad(kidney.labels, list(zip(before, behind, strict=True))), COARSE, KIDNEY_TUMOR)
    assert measure_kidney(moved) == measure_kidney(kidney)


def test_boxes_that_touch_share_a_face():
    """A box of 40 × 60 × 50 voxels of 1 mm is cut in two: the halves share 60 × 50 mm."""
    first, second = np.zeros((2, 44, 64, 54), dtype=bool)
    first[2:22, 2:62, 2:52] = True
    second[22:42, 2:62, 2:52] = True
    assert contact_cm2(first, second, (1.0, 1.0, 1.0)) == pytest.approx(30, rel=0.001)
    second[22] = False
    assert contact_cm2(first, second, (1.0, 1.0, 1.0)) == pytest.approx(30 / 4)
    second[23] = False
    assert contact_cm2(first, second, (1.0, 1.0, 1.0)) == 0
    assert contact_cm2(first, np.zeros_like(first), (1.0, 1.0, 1.0)) == 0


def test_parenchyma_beyond_the_margin():
    """A kidney of 20 × 10 × 10 voxels of 1 mm with a slab of tumor at its end: 5 mm of kidney do not remain."""
    labels = np.zeros((30, 12, 12), dtype=np.uint8)
    labels[5:25, 1:11, 1:11] = 1
    labels[20:25, 1:11, 1:11] = 2
    (kidney,) = find_kidneys(labels, (1.0, 1.0, 1.0), KIDNEY_TUMOR)
    sheet = measure_kidney(kidney)
    assert (sheet.kidney_ml, sheet.tumor_ml) == (1.5, 0.5)
    assert sheet.remaining_ml == pytest.approx(1.0)  # voxels whose centres are at least 6 mm from the nearest
    assert sheet.remaining_share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("middle", "face", "points"),
    [((0.0, -26.0, 0.0), "anterior", 3), ((0.0, 26.0, 0.0), "posterior", 3), ((50.0, 0.0, 4.0), "neither", 1)],
)
def test_the_place_of_a_tumor(middle, face, points):
    tumor = measure_kidney(kidney_with(Ball(middle, 8.0), (2.0, 1.0, 1.0))).tumor
    assert tumor is not None
    assert (tumor.face, tumor.polar.points) == (face, points)
    if middle[0] > 0:
        assert tumor.polar.beyond_upper == 1 and tumor.polar.to_upper_mm > 0
        assert tumor.polar.to_lower_mm == pytest.approx(tumor.polar.to_upper_mm + 2 * HALF_AXES_MM[0] / 3, abs=4)


@pytest.mark.slow
def test_a_tumor_across_the_middle_of_the_axis():
    """It reaches from 3 mm below the middle to 47 mm above; the line is at 55 / 3 = 18.3 mm, and 39 % are below it."""
    tumor = measure_kidney(kidney_with(Ball((22.0, -35.0, 0.0), 25.0), (2.0, 1.0, 1.0))).tumor
    assert tumor is not None
    assert 0.5 < tumor.polar.beyond_upper < 0.7 and tumor.polar.beyond_lower == 0
    assert tumor.polar.crosses_middle and not tumor.polar.is_between and tumor.polar.points == 3


def test_the_index_of_centrality():
    tumor = measure_kidney(kidney_with(Ball((0.0, -30.0, 0.0), 10.0), (1.0, 1.0, 1.0))).tumor
    assert tumor is not None
    assert tumor.c_index == pytest.approx(3, rel=0.06)  # the ball shifts the centre of the whole a little
    assert (tumor.radius_points, tumor.exophytic_points) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirror_image_measures_the_same(axis):
    kidney = kidney_with(CENTRAL, (2.0, 1.0, 1.0))
    (mirrored,) = find_kidneys(np.flip(kidney.labels, axis), kidney.spacing_mm, KIDNEY_TUMOR)
    first = measure_kidney(kidney).tumor
    second = measure_kidney(mirrored).tumor
    assert first is not None and second is not None
    assert second.contact_cm2 == pytest.approx(first.contact_cm2)
    assert second.diameter_3d_mm == pytest.approx(first.diameter_3d_mm, rel=1e-3)
    assert second.exophytic_share == pytest.approx(first.exophytic_share, abs=0.01)
    assert second.behind_mm == pytest.approx(-first.behind_mm if axis == 1 else first.behind_mm)
