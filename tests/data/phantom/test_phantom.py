"""Tests of painted cases: reproducible, plausible tissues, given labels unchanged, not segmentable by a threshold."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from renalnet.config import KIDNEY_TUMOR, PhantomConfig
from renalnet.data.images.volume import Grid, Volume, grid_difference, read_volume, write_volume
from renalnet.data.phantom import SYNTHETIC, TUMOR_SHARES, PaintedCase, paint_abdomen, paint_labels, write_cohort
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.data.phantom.imaging.tumor import draw_kind, draw_volume_ml
from renalnet.errors import ConfigError, InputError
from renalnet.evaluation.intensity_rules import fit_inside_rule, fit_window_rule, hu_counts
from renalnet.runtime.storage import read_json

COARSE = PhantomConfig(shape=(48, 84, 84), spacing_mm=(6.0, 4.2, 4.2), healthy_share=0.0, contrast="narrow")
"""A coarse grid that has every tissue and takes a tenth of the time."""
ROI_GRID = Grid.axis_aligned((50, 60, 60), (2.5, 1.625, 1.625), (5.0, -7.0, 11.0))


@cache
def _abdomen(index: int) -> PaintedCase:
    return paint_abdomen(COARSE, index)


def _label_map() -> Volume:
    """Return a kidney with half axes of 24 × 25 × 52 mm and a tumor of 12 mm radius on its side."""
    z, y, x = (np.arange(n) * s for n, s in zip(ROI_GRID.shape, ROI_GRID.spacing_mm, strict=True))
    z = z[:, None, None] - 62
    y = y[None, :, None] - 48
    x = x[None, None, :] - 48
    label = ((z / 52) ** 2 + (y / 24) ** 2 + (x / 25) ** 2 < 1).astype(np.uint8)
    label[(z - 10) ** 2 + y**2 + (x - 24) ** 2 < 144] = 2
    return Volume(label, ROI_GRID)


def _write_maps(folder: Path, count: int = 2) -> Path:
    for index in range(count):
        write_volume(folder / f"patient_{index}.nii.gz", _label_map())
    return folder


def test_one_index_gives_the_same_voxels_and_another_does_not() -> None:
    again = paint_abdomen(COARSE, 1)
    assert np.array_equal(again.image.array, _abdomen(1).image.array)
    assert np.array_equal(again.label.array, _abdomen(1).label.array)
    assert again.truth == _abdomen(1).truth
    assert not np.array_equal(_abdomen(2).image.array, again.image.array)


def test_abdomen_has_the_asked_grid_and_types() -> None:
    case = _abdomen(0)
    assert case.image.array.shape == case.label.array.shape == COARSE.shape
    assert case.image.grid == case.label.grid
    assert case.image.grid.spacing_mm == COARSE.spacing_mm
    assert (case.image.array.dtype, case.label.array.dtype) == (np.int16, np.uint8)


def test_abdomen_spans_air_to_bone() -> None:
    image = _abdomen(0).image.array
    assert image.min() < -950
    assert image.max() > 800
    assert 0.05 < np.mean((image > -150) & (image < -50)) < 0.5


@pytest.mark.parametrize("index", range(4))
def test_kidneys_have_the_brightness_and_size_of_real_ones(index: int) -> None:
    case = _abdomen(index)
    core = ndimage.binary_erosion(case.label.array == 1)  # without the rim that mixes with fat
    assert 165 <= case.image.array[core].mean() <= 225
    assert 25 <= case.image.array[core].std() <= 70
    assert 2 * 85 <= case.truth.kidney_ml <= 2 * 260


@pytest.mark.parametrize("index", range(4))
def test_tumor_is_one_piece_on_its_side_and_in_range(index: int) -> None:
    case = _abdomen(index)
    tumor = case.label.array == 2
    assert ndimage.label(tumor, np.ones((3, 3, 3)))[1] == 1
    assert 1.9 <= case.truth.tumor_ml <= 145.1
    x_mm = np.argwhere(tumor)[:, 2].mean() * 4.2 + case.label.grid.origin_mm[2]
    assert (x_mm > 0) == (case.truth.side == "left")


def test_truth_agrees_with_the_labels() -> None:
    case = _abdomen(3)
    (tumor,) = case.truth.tumors
    assert case.truth.tumor_ml == pytest.approx((case.label.array == 2).sum() * case.label.grid.voxel_ml)
    assert tumor.volume_ml == pytest.approx(case.truth.tumor_ml)
    assert tumor.exophytic_share is not None
    assert 0 <= tumor.exophytic_share <= 1


def test_healthy_share_is_met_over_consecutive_cases() -> None:
    config = COARSE.model_copy(update={"healthy_share": 0.5})
    cases = [paint_abdomen(config, index) for index in range(8)]
    assert abs(sum(case.truth.healthy for case in cases) - 4) <= 1
    assert all((case.label.array == 2).any() != case.truth.healthy for case in cases)


def test_noise_and_blur_can_be_off() -> None:
    config = COARSE.model_copy(update={"noise_hu": 0.0, "blur_mm": 0.0})
    image = paint_abdomen(config, 0).image.array
    assert set(np.unique(image[:, :3, :3])) == {-1000}


def test_noise_has_the_asked_spread() -> None:
    air = _abdomen(0).image.array[:, :3, :3].astype(float)
    assert air.std() == pytest.approx(COARSE.noise_hu, rel=0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (20, 84, 84)}, "field of view 120×352.8×352.8 mm"),
        ({"shape": (4000, 4000, 4000)}, "4000×4000×4000 voxels .* needs about 2741.8 GiB of memory, more than the"),
        ({"tumor_volume_ml": (10.0, 5.0)}, "range of positive volumes"),
        ({"tumor_volume_ml": (0.0, 5.0)}, "range of positive volumes"),
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        paint_abdomen(COARSE.model_copy(update=changes), 0)


def test_mixture_is_a_distribution_and_mostly_unlike_kidney() -> None:
    weights = TUMOR_SHARES
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["hypodense"] + weights["necrotic"] + weights["fatty"] >= 0.74
    drawn = [draw_kind(q) for q in np.linspace(0, 1, 1000, endpoint=False)]
    assert all(abs(drawn.count(kind) / 1000 - weight) < 0.002 for kind, weight in weights.items())


def test_tumor_volumes_are_skewed_as_in_the_paper() -> None:
    volumes = [draw_volume_ml(q, (2.0, 145.0)) for q in np.linspace(0, 1, 1001)]
    assert (volumes[0], volumes[-1]) == pytest.approx((2, 145))
    assert np.median(volumes) == pytest.approx(17.0, abs=0.1)
    assert np.mean(volumes) == pytest.approx(33.4, abs=0.2)


def test_smooth_field_has_unit_spread_and_is_smooth() -> None:
    field = smooth_field(np.random.default_rng(0), (40, 50, 60), (2.0, 1.0, 1.0), 5.0)
    assert field.shape == (40, 50, 60)
    assert field.std() == pytest.approx(1, abs=0.15)
    assert np.diff(field, axis=2).std() < 0.35


def test_given_labels_and_grid_are_kept() -> None:
    labels = _label_map()
    case = paint_labels(labels, COARSE, 0)
    assert np.array_equal(case.label.array, labels.array)
    assert grid_difference(case.image.grid, labels.grid) is None
    assert case.image.array.dtype == np.int16
    assert case.truth.tumors[0].exophytic_share is None


def test_painting_labels_repeats() -> None:
    first, second = (paint_labels(_label_map(), COARSE, 5) for _ in range(2))
    assert np.array_equal(first.image.array, second.image.array)


def test_healthy_cases_have_their_tumor_relabelled_as_kidney() -> None:
    case = paint_labels(_label_map(), COARSE.model_copy(update={"healthy_share": 1.0}), 0)
    assert case.truth.healthy
    assert np.array_equal(case.label.array, _label_map().array.clip(max=1))


def test_labels_on_turned_axes_get_the_same_image_on_their_own_axes() -> None:
    upright = _label_map()
    flipped = Grid(ROI_GRID.size_xyz, ROI_GRID.spacing_xyz_mm, _far_corner(ROI_GRID), (-1, 0, 0, 0, -1, 0, 0, 0, -1))
    turned = Volume(np.ascontiguousarray(upright.array[::-1, ::-1, ::-1]), flipped)
    painted = paint_labels(turned, COARSE, 0)
    assert painted.image.grid == flipped
    assert np.array_equal(painted.image.array[::-1, ::-1, ::-1], paint_labels(upright, COARSE, 0).image.array)


def _far_corner(grid: Grid) -> tuple[float, float, float]:
    x, y, z = (o + (n - 1) * s for o, n, s in zip(grid.origin_xyz_mm, grid.size_xyz, grid.spacing_xyz_mm, strict=True))
    return x, y, z


@pytest.mark.parametrize(("value", "message"), [(3, "label value 3"), (0, "no kidney")])
def test_unusable_label_maps_are_refused(value: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paint_labels(Volume(np.full(ROI_GRID.shape, value, np.uint8), ROI_GRID), COARSE, 0)


def test_every_tumor_of_a_map_is_painted_by_a_draw_of_its_own() -> None:
    labels = _label_map()
    labels.array[10:13, 28:31, 28:31] = 2
    truth = paint_labels(labels, COARSE, 0).truth
    assert len(truth.tumors) == 2
    assert truth.tumors[0].volume_ml > truth.tumors[1].volume_ml


@pytest.mark.slow
def test_intensity_alone_does_not_segment_a_cohort() -> None:
    cases = [(case.image.array, case.label.array) for case in map(_abdomen, range(16))]
    assert fit_inside_rule(cases, KIDNEY_TUMOR).tumor_dice <= 0.75
    assert fit_window_rule(cases, KIDNEY_TUMOR).tumor_dice <= 0.25


@pytest.mark.slow
@pytest.mark.skipif("RENALNET_TEST_DATA" not in os.environ, reason="RENALNET_TEST_DATA names no folder of label maps")
def test_intensity_alone_does_not_segment_real_kidneys() -> None:
    files = sorted(Path(os.environ["RENALNET_TEST_DATA"], "kits19_rois", "test").glob("*.nii.gz"))[:3]
    cases = [paint_labels(read_volume(file), PhantomConfig(healthy_share=0), i) for i, file in enumerate(files)]
    assert fit_inside_rule([(case.image.array, case.label.array) for case in cases], KIDNEY_TUMOR).tumor_dice <= 0.75


def test_cohort_is_written_in_the_kits_layout(tmp_path: Path) -> None:
    config = COARSE.model_copy(update={"num_cases": 2})
    calls: list[tuple[int, int]] = []
    summary = write_cohort(tmp_path, config, progress=lambda *done: calls.append(done), measure=hu_counts)
    assert calls == [(1, 2), (2, 2)]
    image = read_volume(tmp_path / "case_00001" / "imaging.nii.gz")
    assert np.array_equal(image.array, _abdomen(1).image.array)
    label = read_volume(tmp_path / "case_00001" / "segmentation.nii.gz")
    assert np.array_equal(summary.measures[1], hu_counts(image.array, label.array, KIDNEY_TUMOR))


def test_cohort_file_has_the_truth_and_no_path(tmp_path: Path) -> None:
    summary = write_cohort(tmp_path / "out", COARSE, _write_maps(tmp_path / "maps"))
    listed = read_json(tmp_path / "out" / "cohort.json")
    assert (listed["source"], listed["finished"], summary.source) == ("maps", True, "maps")
    assert [row["case"] for row in listed["cases"]] == ["patient_0", "patient_1"]
    assert listed["cases"][0]["tumors"][0]["kind"] in TUMOR_SHARES
    assert str(tmp_path) not in (tmp_path / "out" / "cohort.json").read_text()


def test_interrupted_cohort_continues_without_repainting(tmp_path: Path) -> None:
    config = COARSE.model_copy(update={"num_cases": 2})
    first = write_cohort(tmp_path, config, measure=hu_counts)
    (tmp_path / "case_00001" / "truth.json").unlink()
    second = write_cohort(tmp_path, config, measure=hu_counts)
    assert [case.painted for case in second.cases] == [False, True]
    assert [case.truth for case in second.cases] == [case.truth for case in first.cases]
    assert all(np.array_equal(a, b) for a, b in zip(first.measures, second.measures, strict=True))
    assert second.source == SYNTHETIC


@pytest.mark.slow
def test_two_workers_write_what_one_writes(tmp_path: Path) -> None:
    maps = _write_maps(tmp_path / "maps")
    alone, together = (write_cohort(tmp_path / str(n), COARSE, maps, workers=n, measure=hu_counts) for n in (1, 2))
    assert [case.truth for case in alone.cases] == [case.truth for case in together.cases]
    assert all(np.array_equal(a, b) for a, b in zip(alone.measures, together.measures, strict=True))


def test_folder_of_another_cohort_is_refused(tmp_path: Path) -> None:
    maps = _write_maps(tmp_path / "maps", count=1)
    write_cohort(tmp_path / "out", COARSE, maps)
    with pytest.raises(InputError, match="holds another cohort"):
        write_cohort(tmp_path / "out", COARSE.model_copy(update={"seed": 1}), maps)


def test_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="needs a new or empty folder"):
        write_cohort(tmp_path, COARSE)


@pytest.mark.parametrize(("name", "message"), [("absent", "no such folder"), ("", "holds no")])
def test_labels_folder_without_maps_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_cohort(tmp_path / "out", COARSE, tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_bad_label_file_is_named_with_its_value(tmp_path: Path) -> None:
    write_volume(tmp_path / "maps" / "odd.nii.gz", Volume(np.full(ROI_GRID.shape, 7, np.uint8), ROI_GRID))
    with pytest.raises(InputError, match=r"odd\.nii\.gz: label 7"):
        write_cohort(tmp_path / "out", COARSE, tmp_path / "maps")
