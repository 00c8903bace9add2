"""Localisation of the kidneys of phantoms by other phantoms."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.atlas import LOW_CONFIDENCE, Atlas, load_atlases, localise, make_atlas, save_atlases
from renalnet.data.kidneys import SIDE_VALUES, SIDES, Box, split_sides
from renalnet.data.phantom import PaintedCase, paint_abdomen
from renalnet.data.volume import Grid, Volume, grid_difference
from renalnet.errors import InputError

CONFIG = PrepareConfig()
COARSE = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2))


@pytest.fixture(scope="module")
def patients() -> list[PaintedCase]:
    return [paint_abdomen(COARSE, index) for index in range(5)]


@pytest.fixture(scope="module")
def atlases(patients: list[PaintedCase]) -> list[Atlas]:
    return [
        make_atlas(f"p{index}", patient.image, patient.label, CONFIG, synthetic=True)
        for index, patient in enumerate(patients[:3])
    ]


@pytest.mark.parametrize("index", [3, 4])
def test_boxes_hold_nearly_all_of_each_kidney(patients: list[PaintedCase], atlases: list[Atlas], index: int) -> None:
    patient = patients[index]
    found = localise(patient.image, atlases, CONFIG)
    sides = split_sides(patient.label, patient.image)
    assert found.confidence > LOW_CONFIDENCE
    for side in SIDES:
        box = found.box(side)
        assert box is not None
        assert box.share_of(sides == SIDE_VALUES[side], patient.label.grid) > 0.85
        assert max(box.size_mm) < 200


def test_a_scan_of_other_extent_is_found_too(patients: list[PaintedCase], atlases: list[Atlas]) -> None:
    whole, image = localise(patients[3].image, atlases, CONFIG), patients[3].image
    origin = (image.grid.origin_mm[0] + 8 * 5.0, *image.grid.origin_mm[1:])
    part = Volume(image.array[8:], Grid.axis_aligned(image.array[8:].shape, image.grid.spacing_mm, origin))
    found = localise(part, atlases, CONFIG)
    assert whole.left is not None
    assert found.left is not None
    np.testing.assert_allclose(found.left.centre_mm, whole.left.centre_mm, atol=12)


def test_what_is_no_abdomen_is_doubtful(patients: list[PaintedCase], atlases: list[Atlas]) -> None:
    image = patients[3].image
    upside_down = Volume(np.ascontiguousarray(image.array[::-1]), image.grid)
    noise = np.random.default_rng(0).integers(-1000, 1000, image.array.shape).astype(np.int16)
    assert localise(upside_down, atlases, CONFIG).confidence < LOW_CONFIDENCE
    assert localise(Volume(noise, image.grid), atlases, CONFIG).confidence < LOW_CONFIDENCE


def test_a_patient_is_not_compared_with_itself(patients: list[PaintedCase], atlases: list[Atlas]) -> None:
    without = localise(patients[0].image, atlases, CONFIG, exclude="p0")
    assert without == localise(patients[0].image, atlases[1:], CONFIG)
    with pytest.raises(InputError, match="no atlas to localise with"):
        localise(patients[0].image, atlases[:1], CONFIG, exclude="p0")


def test_atlas_sides_lie_on_their_sides(patients: list[PaintedCase], atlases: list[Atlas]) -> None:
    for patient, atlas in zip(patients, atlases, strict=False):
        assert atlas.image.grid.spacing_mm == (6.0, 6.0, 6.0)
        boxes = [Box.around(atlas.sides.array == SIDE_VALUES[side], atlas.sides.grid) for side in SIDES]
        assert boxes[0] is not None
        assert boxes[1] is not None
        assert boxes[0].centre_mm[2] > boxes[1].centre_mm[2]
        volume_ml = np.count_nonzero(atlas.sides.array) * atlas.sides.grid.voxel_ml
        truth_ml = np.count_nonzero(patient.label.array) * patient.label.grid.voxel_ml
        assert volume_ml == pytest.approx(truth_ml, rel=0.2)


def test_an_empty_atlas_is_refused(patients: list[PaintedCase]) -> None:
    empty = Volume(np.zeros_like(patients[0].label.array), patients[0].label.grid)
    with pytest.raises(InputError, match="atlas 'x': its label is empty"):
        make_atlas("x", patients[0].image, empty, CONFIG, synthetic=True)


def test_saved_atlases_come_back(tmp_path: Path, atlases: list[Atlas]) -> None:
    save_atlases(tmp_path / "atlas.safetensors", atlases)
    back = load_atlases(tmp_path / "atlas.safetensors")
    assert [(atlas.name, atlas.synthetic) for atlas in back] == [(f"p{index}", True) for index in range(3)]
    for one, two in zip(back, atlases, strict=True):
        assert grid_difference(one.image.grid, two.image.grid) is None
        np.testing.assert_array_equal(one.image.array, two.image.array)
        np.testing.assert_array_equal(one.sides.array, two.sides.array)


def test_a_file_that_holds_no_atlases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no atlases here"):
        load_atlases(tmp_path / "absent.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a file of atlases"):
        load_atlases(tmp_path / "other.safetensors")
