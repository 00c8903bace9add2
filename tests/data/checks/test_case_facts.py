"""Facts of a hand-made case, compared with numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from support.label_sets import CYST, VEIN, VESSELS
from support.label_values import KIDNEY, TUMOR
from support.validation_cases import GRID, LEFT_KIDNEY, RIGHT_KIDNEY, SHAPE, sound_case, with_label

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.checks.case_checks import check_case
from renalnet.data.checks.case_facts import measure_case
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import LabelArray

VOXEL_ML = 0.027


def test_volumes_are_counted_by_side() -> None:
    facts = measure_case(sound_case())
    assert facts.kidney_right_ml == pytest.approx(3600 * VOXEL_ML)
    assert facts.kidney_left_ml == pytest.approx((3600 - 216) * VOXEL_ML)
    assert facts.kidney_ml == pytest.approx(6984 * VOXEL_ML)
    assert facts.tumor_ml == pytest.approx(216 * VOXEL_ML)


def test_the_scan_and_its_intensities() -> None:
    facts = measure_case(sound_case())
    assert (facts.num_slices, facts.num_rows, facts.num_columns) == SHAPE
    assert (facts.spacing_mm, facts.field_mm) == ((3.0, 3.0, 3.0), (120.0, 180.0, 300.0))
    assert (facts.hu_min, facts.hu_max, facts.hu_p1, facts.hu_p99) == (-1000, 800, -1000, 200)
    assert (facts.kidney_hu, facts.tumor_hu, facts.phase) == (200.0, 60.0, "enhanced")
    assert facts.air_share == pytest.approx(1 - 50 * 90 / (60 * 100))
    fat = 30 * 70 * 40 - 7200 - 5 * 4 * 40
    assert facts.fat_share == pytest.approx(fat / (50 * 90 * 40), rel=1e-5)


def test_shares_are_those_of_the_window_around_the_lesioned_kidney() -> None:
    """97.5 mm cover 34 columns and rows of 3 mm; 75 mm of kidney and twice 10 mm cover 33 slices."""
    facts = measure_case(sound_case())
    assert facts.roi_ml == pytest.approx(33 * 34 * 34 * VOXEL_ML, rel=1e-5)
    assert facts.roi_kidney_ml == facts.kidney_left_ml
    assert facts.roi_tumor_ml == facts.tumor_ml


def test_without_tumor_the_larger_kidney_is_measured() -> None:
    def no_tumor(label: LabelArray) -> LabelArray:
        label[label == TUMOR] = 0
        return label

    facts = measure_case(with_label(sound_case(), no_tumor))
    assert facts.roi_kidney_ml == facts.kidney_right_ml
    assert (facts.tumor_ml, facts.tumor_hu, facts.num_tumors) == (0.0, None, 0)


def test_all_voxels_of_an_roi_already_cut_count() -> None:
    where = np.s_[4:37, 14:48, 57:91]
    image = sound_case().image.array[where]
    label = sound_case().label.array[where]
    grid = Grid.axis_aligned((33, 34, 34), (3.0, 3.0, 3.0))
    facts = measure_case(LoadedCase("roi", Volume(image, grid), Volume(label, grid), grid, KIDNEY_TUMOR))
    whole = measure_case(sound_case())
    assert facts.is_cut
    assert not whole.is_cut
    assert facts.midline_offset_mm is None
    assert (facts.roi_ml, facts.roi_kidney_ml) == (whole.roi_ml, whole.roi_kidney_ml)
    assert facts.signature == whole.signature


def test_tumor_components_and_fragments() -> None:
    def scattered(label: LabelArray) -> LabelArray:
        label[2:4, 50:52, 50:52] = TUMOR  # 8 voxels, 0.216 ml, alone
        label[20, 30, 32] = TUMOR  # one voxel at the right kidney
        label[::10, 58, 5] = KIDNEY  # four voxels, each alone
        return label

    facts = measure_case(with_label(sound_case(), scattered))
    assert facts.tumor_detached_ml == pytest.approx(8 * VOXEL_ML)
    assert (facts.num_tumors, facts.num_fragments) == (2, 4)
    assert facts.label_faces == "feet"


def test_the_faces_that_a_label_reaches() -> None:
    everywhere = measure_case(with_label(sound_case(), lambda label: np.full_like(label, KIDNEY)))
    assert everywhere.label_faces == "feet head front back right left"
    assert measure_case(sound_case()).label_faces == ""


def test_the_share_of_kidney_that_is_fat() -> None:
    def beside(label: LabelArray) -> LabelArray:
        label[:] = 0
        label[8:33, 25:37, 14:26] = KIDNEY  # 6 of 12 columns on the kidney, 5 on fat, 1 on muscle
        return label

    facts = measure_case(with_label(sound_case(), beside))
    assert facts.kidney_not_tissue_share == pytest.approx(5 / 12, rel=1e-5)
    assert facts.kidney_hu == pytest.approx((6 * 200 - 5 * 100 + 40) / 12, rel=1e-5)


def test_the_midline_of_kidneys_and_body() -> None:
    def moved(label: LabelArray) -> LabelArray:
        return np.roll(label, 4, axis=2)

    assert measure_case(sound_case()).midline_offset_mm == pytest.approx(0, abs=3.1)
    shift = measure_case(with_label(sound_case(), moved)).midline_offset_mm
    base = measure_case(sound_case()).midline_offset_mm
    assert shift is not None
    assert base is not None
    assert shift - base == pytest.approx(12.0)


def test_an_empty_label_has_no_means_and_no_volumes() -> None:
    facts = measure_case(with_label(sound_case(), np.zeros_like))
    assert (facts.kidney_hu, facts.tumor_hu, facts.kidney_not_tissue_share) == (None, None, None)
    assert (facts.phase, facts.kidney_ml, facts.roi_ml, facts.signature) == ("unknown", 0.0, 0.0, "")


def test_unenhanced_kidneys_are_told_apart() -> None:
    loaded = sound_case()
    for kidney in (RIGHT_KIDNEY, LEFT_KIDNEY):
        loaded.image.array[kidney] = 35
    assert measure_case(loaded).phase == "unenhanced"


def test_an_oblique_source_is_noted() -> None:
    tilt = np.deg2rad(5)
    tilted = (1.0, 0.0, 0.0, 0.0, np.cos(tilt), -np.sin(tilt), 0.0, np.sin(tilt), np.cos(tilt))
    flipped = (0.0, -1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    loaded = sound_case()
    assert measure_case(replace(loaded, source=replace(GRID, direction=tilted))).oblique
    assert not measure_case(replace(loaded, source=replace(GRID, direction=flipped))).oblique


CYST_IN_LEFT = np.s_[25:31, 25:31, 68:74]
CYST_BESIDE_RIGHT = np.s_[8:12, 25:29, 32:36]


def with_cysts(label: LabelArray) -> LabelArray:
    """Return the label map with 216 voxels of the left kidney as cyst, and 64 voxels of cyst beside the right one."""
    label[CYST_IN_LEFT] = CYST
    label[CYST_BESIDE_RIGHT] = CYST
    return label


def test_cysts_are_neither_kidney_nor_tumor() -> None:
    loaded = replace(with_label(sound_case(), with_cysts), labels=KITS23)
    loaded.image.array[CYST_IN_LEFT] = 10
    loaded.image.array[CYST_BESIDE_RIGHT] = 10
    facts = measure_case(loaded)
    assert facts.kidney_left_ml == pytest.approx((3600 - 216 - 216) * VOXEL_ML)
    assert facts.kidney_right_ml == pytest.approx(3600 * VOXEL_ML)
    assert facts.tumor_ml == pytest.approx(216 * VOXEL_ML)
    # Of cysts of 10 HU, a mean over kidneys and cysts would have noticed.
    assert (facts.kidney_hu, facts.tumor_hu) == (200.0, 60.0)
    assert (facts.num_tumors, facts.num_fragments, facts.tumor_detached_ml) == (1, 0, 0.0)
    assert facts.roi_kidney_ml == facts.kidney_left_ml
    assert facts.roi_tumor_ml == facts.tumor_ml
    assert check_case(loaded)[1] == []


def test_the_window_has_room_for_a_cyst() -> None:
    def cyst_above(label: LabelArray) -> LabelArray:
        label[33:37, 25:37, 68:80] = CYST
        return label

    facts = measure_case(replace(with_label(sound_case(), cyst_above), labels=KITS23))
    # 75 mm of kidney, 12 mm of cyst and twice 10 mm cover 36 slices.
    assert facts.roi_ml == pytest.approx(36 * 34 * 34 * VOXEL_ML, rel=1e-5)
    assert facts.roi_kidney_ml == measure_case(sound_case()).kidney_left_ml


def test_another_structure_changes_no_fact() -> None:
    def with_aorta(label: LabelArray) -> LabelArray:
        label[:, 30:34, 40:48] = VEIN  # from the first slice to the last one
        label[20, 26:30, 48:68] = VEIN  # up to the left kidney
        label[2, 50, 50] = VEIN  # a single voxel
        return label

    without = measure_case(sound_case())
    facts = measure_case(replace(with_label(sound_case(), with_aorta), labels=VESSELS))
    assert facts.label_digest != without.label_digest
    assert replace(facts, label_digest=without.label_digest) == without


def test_a_label_map_of_vessels_alone_counts_as_empty() -> None:
    vessels = replace(with_label(sound_case(), lambda label: np.where(label > 0, VEIN, 0)), labels=VESSELS)
    facts, findings = check_case(vessels)
    assert (facts.kidney_ml, facts.roi_ml, facts.signature, facts.label_faces) == (0.0, 0.0, "", "")
    assert [(finding.level, finding.code) for finding in findings] == [("error", "label-empty")]
