"""Painted cases of other label sets: cysts in drawn anatomy and in real label maps, and vessels of given ones."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from support.label_sets import CYST, VEIN, VESSELS
from support.label_values import KIDNEY, TUMOR

from renalnet.config import KIDNEY_TUMOR, KITS23, Label, LabelSet, PhantomConfig
from renalnet.data.images.volume import Grid, Volume, read_volume, write_volume
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_labels, write_cohort
from renalnet.data.phantom.coordinates import BodyCoordinates
from renalnet.data.phantom.other_lesions import add_other_lesions
from renalnet.errors import InputError
from renalnet.runtime.storage import read_json
from renalnet.types import LabelArray

COARSE = PhantomConfig(shape=(48, 84, 84), spacing_mm=(6.0, 4.2, 4.2), healthy_share=0.0, contrast="narrow")
CYSTS = COARSE.model_copy(update={"labels": KITS23, "other_lesion_share": 1.0})
NO_NOISE = {"noise_hu": 0.0, "blur_mm": 0.0}
GRID = Grid.axis_aligned((50, 60, 60), (2.5, 1.625, 1.625))


@cache
def _with_cyst(index: int) -> PaintedCase:
    return paint_abdomen(CYSTS, index)


@pytest.mark.parametrize("index", range(4))
def test_kidneys_and_tumors_are_those_of_the_default_set(index: int) -> None:
    plain = paint_abdomen(COARSE, index)
    case = _with_cyst(index)
    cyst = case.label.array == CYST
    assert cyst.any()
    np.testing.assert_array_equal(case.label.array[~cyst], plain.label.array[~cyst])
    assert (plain.label.array[cyst] != TUMOR).all()
    assert (plain.label.array[cyst] == KIDNEY).any()
    assert case.truth.tumors == plain.truth.tumors
    assert (case.truth.tumor_ml, plain.truth.other_ml) == (plain.truth.tumor_ml, {})


@pytest.mark.parametrize("index", range(4))
def test_a_cyst_is_a_ball_of_fluid_of_plausible_size(index: int) -> None:
    case = _with_cyst(index)
    cyst = case.label.array == CYST
    cyst_ml = cyst.sum() * case.label.grid.voxel_ml
    assert case.truth.other_ml == {"cyst": pytest.approx(cyst_ml)}
    assert cyst_ml <= 4 / 3 * np.pi * 1.4**3 * 1.1  # of a radius of 14 mm; voxels of 0.1 ml make it a little uneven
    extent_mm = np.ptp(np.argwhere(cyst), axis=0) * COARSE.spacing_mm
    assert (extent_mm <= 28).all()
    # The mean is drawn from -5 to 20 HU, and noise of 15 HU and a blur over the rim are added.
    assert -10 <= np.median(case.image.array[cyst]) <= 35


def test_without_noise_and_blur_a_cyst_has_one_ct_number() -> None:
    case = paint_abdomen(CYSTS.model_copy(update=NO_NOISE), 1)
    (hu,) = np.unique(case.image.array[case.label.array == CYST])
    assert -5 <= hu <= 20


def _drawn(config: PhantomConfig, index: int) -> LabelArray:
    """Return a block of kidney with a block of tumor, to which the other lesions of a case were added."""
    shape = (40, 40, 40)
    label = np.zeros(shape, np.uint8)
    label[10:30, 10:30, 10:30] = KIDNEY
    label[10:20, 10:20, 10:20] = TUMOR
    space = BodyCoordinates.draw(np.random.default_rng(0), shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    forbidden = np.zeros(shape, bool)
    forbidden[:, :, 28:] = True
    add_other_lesions(label, space, forbidden, config, index)
    return label


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_asked_share_of_cases_has_a_cyst(share: float) -> None:
    config = CYSTS.model_copy(update={"other_lesion_share": share})
    count = sum(bool((_drawn(config, index) == CYST).any()) for index in range(100))
    assert count == pytest.approx(100 * share, abs=14)  # three standard deviations of 100 draws of 0.3
    assert count in (0, 100) or share == 0.3


def test_a_cyst_is_centred_in_the_kidney_and_replaces_no_tumor() -> None:
    tumor = _drawn(COARSE, 0) == TUMOR
    for index in range(20):
        label = _drawn(CYSTS, index)
        np.testing.assert_array_equal(label == TUMOR, tumor)
        assert not (label[:, :, 30:] == CYST).any()  # forbidden, and no kidney that a centre may lie in
        cyst = np.argwhere(label == CYST)
        assert len(cyst) <= 4 / 3 * np.pi * 7.5**3  # 14 mm are 7 voxels
        assert ndimage.label(label > 0)[1] == 1


def test_every_lesion_of_the_set_is_drawn_by_itself() -> None:
    two = LabelSet(
        name="two",
        labels=(*KITS23.labels, Label(name="angiomyolipoma", value=4, lesion_of="kidney"), Label(name="vein", value=5)),
    )
    config = CYSTS.model_copy(update={"labels": two, "other_lesion_share": 0.5})
    found = {(bool((label == 3).any()), bool((label == 4).any())) for label in (_drawn(config, i) for i in range(30))}
    assert found == {(False, False), (False, True), (True, False), (True, True)}
    # The cyst is drawn first and stays where it is without the other lesion.
    alone = CYSTS.model_copy(update={"other_lesion_share": 0.5})
    assert all(np.array_equal(_drawn(config, i) == 3, _drawn(alone, i) == 3) for i in range(10))
    assert not any((_drawn(config, i) == 5).any() for i in range(10))


def _label_map() -> Volume:
    """Return a kidney with a tumor on one side, a cyst on the other, and a vessel that leads away from it."""
    z, y, x = (np.arange(n) * s for n, s in zip(GRID.shape, GRID.spacing_mm, strict=True))
    z = z[:, None, None] - 62
    y = y[None, :, None] - 48
    x = x[None, None, :] - 48
    label = ((z / 52) ** 2 + (y / 24) ** 2 + (x / 25) ** 2 < 1).astype(np.uint8)
    label[(z - 10) ** 2 + y**2 + (x - 24) ** 2 < 144] = TUMOR
    label[(z + 20) ** 2 + (y - 10) ** 2 + x**2 < 100] = CYST
    label[24:27, 28:32, :15] = VEIN
    return Volume(label, GRID)


def test_a_given_vessel_is_painted_enhanced_and_a_given_cyst_as_fluid() -> None:
    labels = _label_map()
    case = paint_labels(labels, COARSE.model_copy(update={"labels": VESSELS, **NO_NOISE}), 0)
    np.testing.assert_array_equal(case.label.array, labels.array)
    (vein_hu,) = np.unique(case.image.array[labels.array == VEIN])
    assert 100 <= vein_hu <= 350
    (cyst_hu,) = np.unique(case.image.array[labels.array == CYST])
    assert -5 <= cyst_hu <= 20
    volumes = {name: (labels.array == value).sum() * GRID.voxel_ml for name, value in (("cyst", 3), ("renal_vein", 5))}
    assert case.truth.other_ml == {**{name: pytest.approx(ml) for name, ml in volumes.items()}, "renal_artery": 0.0}


def test_a_label_may_state_its_ct_numbers() -> None:
    stone = LabelSet(name="stone", labels=(*KITS23.labels[:2], Label(name="stone", value=3, painted_hu=(900, 900))))
    labels = _label_map()
    labels.array[labels.array == VEIN] = 0
    case = paint_labels(labels, COARSE.model_copy(update={"labels": stone, **NO_NOISE}), 0)
    assert np.unique(case.image.array[labels.array == 3]).tolist() == [900]


def test_the_side_and_the_place_of_a_kidney_do_not_depend_on_a_vessel() -> None:
    labels = _label_map()
    without = Volume(np.where(labels.array == VEIN, 0, labels.array).astype(np.uint8), GRID)
    config = COARSE.model_copy(update={"labels": VESSELS, **NO_NOISE})
    with_vein, plain = paint_labels(labels, config, 3), paint_labels(without, config, 3)
    assert (with_vein.truth.side, with_vein.truth.tumors) == (plain.truth.side, plain.truth.tumors)
    # The texture of the tumor is drawn after the vessel.
    elsewhere = ~np.isin(labels.array, [VEIN, TUMOR])
    np.testing.assert_array_equal(with_vein.image.array[elsewhere], plain.image.array[elsewhere])


def test_healthy_cases_keep_their_cyst() -> None:
    config = COARSE.model_copy(update={"labels": VESSELS, "healthy_share": 1.0})
    case = paint_labels(_label_map(), config, 0)
    given = _label_map().array
    np.testing.assert_array_equal(case.label.array, np.where(given == TUMOR, KIDNEY, given))
    assert case.truth.healthy


def test_a_map_with_a_label_that_the_set_lacks_names_the_set_that_has_it() -> None:
    labels = _label_map()
    labels.array[labels.array == VEIN] = 0
    message = (
        r"label value 3 must be 0 background, 1 kidney or 2 tumor; relabel the map, "
        r"or choose the label set that has it: --set labels=kits23$"
    )
    with pytest.raises(InputError, match=message):
        paint_labels(labels, COARSE, 0)
    with pytest.raises(InputError, match=r"label value 5 must be .* 2 tumor or 3 cyst; relabel the map$"):
        paint_labels(_label_map(), CYSTS, 0)


def test_a_map_of_vessels_alone_has_no_kidney() -> None:
    labels = Volume(np.where(_label_map().array == VEIN, VEIN, 0).astype(np.uint8), GRID)
    with pytest.raises(InputError, match="holds no kidney"):
        paint_labels(labels, COARSE.model_copy(update={"labels": VESSELS}), 0)


def test_a_real_label_map_with_cysts_is_painted(real_data: Path) -> None:
    labels = read_volume(real_data / "kits23_rois" / "test" / "case_00238.nii.gz")
    cyst = labels.array == CYST
    assert cyst.sum() == 33465
    config = PhantomConfig(labels=KITS23, healthy_share=0.0, contrast="narrow")
    case = paint_labels(labels, config, 0)
    np.testing.assert_array_equal(case.label.array, labels.array)
    assert case.truth.other_ml == {"cyst": pytest.approx(33465 * labels.grid.voxel_ml)}
    core = ndimage.binary_erosion(cyst, iterations=2)  # without the rim that mixes with kidney and fat
    assert -10 <= case.image.array[core].mean() <= 25
    assert case.image.array[ndimage.binary_erosion(labels.array == KIDNEY, iterations=2)].mean() > 100
    with pytest.raises(InputError, match=r"label value 3 .* --set labels=kits23$"):
        paint_labels(labels, PhantomConfig(), 0)


def test_a_cohort_records_its_cysts_and_continues(tmp_path: Path) -> None:
    config = CYSTS.model_copy(update={"num_cases": 2})
    first = write_cohort(tmp_path, config)
    (tmp_path / "case_00001" / "truth.json").unlink()
    second = write_cohort(tmp_path, config)
    assert [case.painted for case in second.cases] == [False, True]
    assert [case.truth for case in second.cases] == [case.truth for case in first.cases]
    label = read_volume(tmp_path / "case_00000" / "segmentation.nii.gz")
    cyst_ml = (label.array == CYST).sum() * label.grid.voxel_ml
    assert read_json(tmp_path / "case_00000" / "truth.json")["other_ml"] == {"cyst": pytest.approx(cyst_ml)}
    with pytest.raises(InputError, match="holds another cohort"):
        write_cohort(tmp_path, config.model_copy(update={"labels": KIDNEY_TUMOR}))


def test_the_truth_of_a_default_cohort_has_the_fields_of_the_versions_before(tmp_path: Path) -> None:
    write_cohort(tmp_path, COARSE.model_copy(update={"num_cases": 1}))
    truth = read_json(tmp_path / "case_00000" / "truth.json")
    assert list(truth) == ["side", "kidney_ml", "tumor_ml", "tumors"]


def test_a_bad_label_file_of_a_cohort_is_named(tmp_path: Path) -> None:
    write_volume(tmp_path / "maps" / "a.nii.gz", _label_map())
    with pytest.raises(InputError, match=r"a\.nii\.gz: label 5 must be .* or 3 cyst; relabel the file$"):
        write_cohort(tmp_path / "out", CYSTS, tmp_path / "maps")
