"""The region of interest: its grid, its content and its notes."""

from dataclasses import replace

import numpy as np
import pytest
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23, PrepareConfig
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.cases.roi import GROWN, TUMOR_LOST, cut_roi, cut_scan, is_cut, isolate_kidney, roi_grid
from renalnet.data.cases.sides import Box
from renalnet.data.images.volume import Grid, Volume

SCAN = Grid.axis_aligned((50, 150, 150), (3.0, 2.0, 2.0), (-75.0, -150.0, -150.0))
ISO = PrepareConfig(spacing_mm=(1.0, 1.0, 1.0), window_mm=100.0, margin_mm=10.0)
OWN = PrepareConfig(spacing_mm=None, window_mm=100.0, margin_mm=10.0)
KIDNEY = Box((-30.0, -30.0, 40.0), (30.0, 30.0, 100.0))


def case_with(*boxes: tuple[Box, int], grid: Grid = SCAN) -> LoadedCase:
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, grid.shape).astype(np.int16)
    label = np.zeros(grid.shape, np.uint8)
    for box, value in boxes:
        low = np.rint((np.array(box.low_mm) - grid.origin_mm) / grid.spacing_mm + 0.5).astype(int)
        high = np.rint((np.array(box.high_mm) - grid.origin_mm) / grid.spacing_mm + 0.5).astype(int)
        label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return LoadedCase("a", Volume(image, grid), Volume(label, grid), grid, KIDNEY_TUMOR)


def test_the_papers_window_is_150_pixels_of_065_mm() -> None:
    grid = roi_grid(SCAN, KIDNEY, PrepareConfig())
    assert grid.shape == (80, 150, 150)  # 60 mm of kidney and two margins of 10 mm
    assert grid.spacing_mm == (1.0, 0.65, 0.65)
    centre = np.array(grid.origin_mm) + (np.array(grid.shape) - 1) / 2 * grid.spacing_mm
    np.testing.assert_allclose(centre, (0.0, 0.0, 70.0), atol=1e-9)


def test_a_kidney_that_does_not_fit_gets_a_margin() -> None:
    wide = Box((-30.0, -30.0, -60.0), (30.0, 30.0, 60.0))
    assert roi_grid(SCAN, wide, ISO).shape == (80, 100, 140)


def test_a_window_moves_back_into_the_field_of_view() -> None:
    grid = roi_grid(SCAN, Box((-30.0, -30.0, 110.0), (30.0, 30.0, 146.0)), ISO)
    assert grid.shape == (80, 100, 100)
    assert grid.origin_mm[2] + 99.5 == pytest.approx(149.0)  # outer edge of the scan's last column


def test_slices_end_with_the_scan() -> None:
    grid = roi_grid(SCAN, Box((-76.5, -30.0, 40.0), (0.0, 30.0, 100.0)), ISO)
    assert grid.shape[0] == 87  # 76.5 mm of kidney within the scan and the upper margin, rounded up
    assert grid.origin_mm[0] == pytest.approx(-76.25)  # a quarter of a voxel beyond the scan at either end


def test_without_resampling_the_voxels_are_the_scans_own() -> None:
    loaded = case_with((KIDNEY, 1))
    cut = cut_roi(loaded, KIDNEY, OWN)
    first = np.rint((np.array(cut.grid.origin_mm) - SCAN.origin_mm) / SCAN.spacing_mm).astype(int)
    window = tuple(slice(a, a + n) for a, n in zip(first, cut.grid.shape, strict=True))
    np.testing.assert_array_equal(cut.image, loaded.image.array[window])
    np.testing.assert_array_equal(cut.label, loaded.label.array[window])
    assert cut.label.sum() == loaded.label.array.sum()
    assert cut.notes == ()


@pytest.mark.parametrize("config", [ISO, OWN])
def test_a_tumor_is_never_cropped_away(config: PrepareConfig) -> None:
    tumor = Box((-60.0, -100.0, 60.0), (-30.0, -28.0, 80.0))
    loaded = case_with((KIDNEY, 1), (tumor, 2))
    cut = cut_roi(loaded, KIDNEY, config)
    assert cut.notes == (GROWN,)
    for value in (1, 2):
        truth_ml = (loaded.label.array == value).sum() * SCAN.voxel_ml
        assert (cut.label == value).sum() * cut.grid.voxel_ml == pytest.approx(truth_ml, rel=0.01)


def test_a_tumor_smaller_than_the_grid_is_noted() -> None:
    fine = Grid.axis_aligned((40, 40, 40), (1.0, 1.0, 1.0))
    loaded = case_with((Box((9.5, 9.5, 9.5), (29.5, 29.5, 29.5)), 1), grid=fine)
    loaded.label.array[20, 20, 20] = 2
    coarse = PrepareConfig(spacing_mm=(4.0, 4.0, 4.0), localise="cut")
    assert cut_roi(loaded, None, coarse).notes == (TUMOR_LOST,)


def test_outside_the_field_of_view_is_air() -> None:
    small = Grid.axis_aligned((20, 20, 20), (2.0, 2.0, 2.0))
    cut = cut_scan(Volume(np.zeros(small.shape, np.int16), small), Box((9.0,) * 3, (29.0,) * 3), ISO)
    assert cut.array.shape[1:] == (100, 100)
    assert cut.array[5, 0, 0] == -1024
    assert cut.array[5, 50, 50] == 0


def test_only_the_lesioned_kidney_stays_labelled() -> None:
    other = Box((-30.0, -30.0, -100.0), (30.0, 30.0, -40.0))
    tumor = Box((-30.0, -30.0, 80.0), (0.0, 0.0, 100.0))
    loaded = case_with((KIDNEY, 1), (other, 1), (tumor, 2))
    isolated, side = isolate_kidney(loaded, seed=0)
    assert side == "left"
    assert not isolated.label.array[..., :75].any()
    np.testing.assert_array_equal(isolated.label.array[..., 75:], loaded.label.array[..., 75:])


def test_the_side_of_a_case_without_tumor_depends_on_the_name_and_the_seed() -> None:
    other = Box((-30.0, -30.0, -100.0), (30.0, 30.0, -40.0))
    loaded = case_with((KIDNEY, 1), (other, 1))
    drawn = [isolate_kidney(loaded, seed)[1] for seed in range(8)]
    assert drawn == [isolate_kidney(loaded, seed)[1] for seed in range(8)]
    assert set(drawn) == {"left", "right"}


VESSEL = Box((-76.5, -10.0, -40.0), (73.5, 10.0, 45.0))
"""A structure that reaches from the first slice to the last one, and from one kidney to the other."""


@pytest.mark.parametrize("config", [ISO, OWN])
def test_another_structure_does_not_change_the_roi(config: PrepareConfig) -> None:
    tumor = Box((-60.0, -100.0, 60.0), (-30.0, -28.0, 80.0))
    boxes = [(KIDNEY, 1), (tumor, 2)]
    without = cut_roi(case_with(*boxes), KIDNEY, config)
    # Two voxels off the kidney, because a voxel between the two has the label with the largest share.
    vessel = replace(VESSEL, high_mm=(73.5, 10.0, 36.0))
    cut = cut_roi(replace(case_with((vessel, VEIN), *boxes), labels=VESSELS), KIDNEY, config)
    assert (cut.grid, cut.notes) == (without.grid, (GROWN,))
    np.testing.assert_array_equal(np.where(cut.label == VEIN, 0, cut.label), without.label)
    # The ROI ends before the last slice, and a part of the structure with it.
    assert (cut.label == VEIN).any() and cut.grid.shape[0] * cut.grid.spacing_mm[0] < 150


def test_a_cyst_is_never_cropped_away() -> None:
    cyst = Box((-60.0, -100.0, 60.0), (-30.0, -28.0, 80.0))
    loaded = replace(case_with((KIDNEY, 1), (cyst, CYST)), labels=KITS23)
    cut = cut_roi(loaded, KIDNEY, ISO)
    assert cut.notes == (GROWN,)
    cyst_ml = (loaded.label.array == CYST).sum() * SCAN.voxel_ml
    assert (cut.label == CYST).sum() * cut.grid.voxel_ml == pytest.approx(cyst_ml, rel=0.01)


def test_cysts_of_the_other_kidney_are_removed_and_vessels_stay() -> None:
    other = Box((-30.0, -30.0, -100.0), (30.0, 30.0, -40.0))
    cyst = Box((-30.0, -30.0, -60.0), (0.0, 0.0, -40.0))  # in the other kidney, and larger than the tumor
    tumor = Box((-30.0, -30.0, 80.0), (-15.0, 0.0, 100.0))
    boxes = [(VESSEL, VEIN), (KIDNEY, 1), (other, 1), (cyst, CYST), (tumor, 2)]
    loaded = replace(case_with(*boxes), labels=VESSELS)
    isolated, side = isolate_kidney(loaded, seed=0)
    assert side == "left"
    before, after = loaded.label.array, isolated.label.array
    np.testing.assert_array_equal(after[..., 75:], before[..., 75:])
    np.testing.assert_array_equal(after[..., :75], np.where(before == VEIN, VEIN, 0)[..., :75])
    assert (after[..., :75] == VEIN).any()


@pytest.mark.parametrize(
    ("localise", "pixels", "expected"),
    [
        ("auto", 150, True),
        ("auto", 195, True),
        ("auto", 196, False),
        ("cut", 512, True),
        ("atlas", 150, False),
    ],
)
def test_small_fields_of_view_are_taken_as_cut(localise: str, pixels: int, expected: bool) -> None:
    grid = Grid.axis_aligned((10, pixels, pixels), (1.0, 0.65, 0.65))
    assert is_cut(grid, PrepareConfig.model_validate({"localise": localise})) is expected
