"""Atlases: making, choosing and saving."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Box
from renalnet.data.images.volume import Grid, Volume, grid_difference
from renalnet.data.localise.atlas import (
    Atlas,
    AtlasCandidate,
    atlases_to_bytes,
    choose_atlases,
    describe_candidate,
    load_atlases,
    make_atlas,
)
from renalnet.data.phantom import PaintedCase, paint_abdomen
from renalnet.errors import InputError

CONFIG = PrepareConfig()
COARSE = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")
SLENDER_TO_BROAD = [AtlasCandidate(f"p{index}", 280.0 + 5 * index, 2) for index in range(16)]


@pytest.fixture(scope="module")
def phantoms() -> list[PaintedCase]:
    return [paint_abdomen(COARSE, index) for index in range(3)]


@pytest.fixture(scope="module")
def atlases(phantoms: list[PaintedCase]) -> list[Atlas]:
    return [
        make_atlas(f"p{index}", phantom.image, phantom.label, CONFIG, synthetic=True)
        for index, phantom in enumerate(phantoms)
    ]


def test_atlas_kidneys_are_on_their_sides(phantoms: list[PaintedCase], atlases: list[Atlas]) -> None:
    for phantom, atlas in zip(phantoms, atlases, strict=True):
        assert atlas.image.grid.spacing_mm == (6.0, 6.0, 6.0)
        boxes = [Box.around(atlas.sides.array == SIDE_VALUES[side], atlas.sides.grid) for side in SIDES]
        assert boxes[0] is not None
        assert boxes[1] is not None
        assert boxes[0].centre_mm[2] > boxes[1].centre_mm[2]
        volume_ml = np.count_nonzero(atlas.sides.array) * atlas.sides.grid.voxel_ml
        truth_ml = np.count_nonzero(phantom.label.array) * phantom.label.grid.voxel_ml
        assert volume_ml == pytest.approx(truth_ml, rel=0.2)


def test_an_empty_atlas_is_refused(phantoms: list[PaintedCase]) -> None:
    empty = Volume(np.zeros_like(phantoms[0].label.array), phantoms[0].label.grid)
    with pytest.raises(InputError, match="atlas 'x': its label map is empty"):
        make_atlas("x", phantoms[0].image, empty, CONFIG, synthetic=True)


def test_chosen_atlases_cover_all_body_widths() -> None:
    for seed in range(5):
        chosen = choose_atlases(SLENDER_TO_BROAD, 8, seed)
        numbers = sorted(int(name[1:]) for name in chosen)
        assert [number // 2 for number in numbers] == list(range(8))


def test_the_choice_depends_only_on_the_seed() -> None:
    once = choose_atlases(SLENDER_TO_BROAD, 8, 3)
    assert choose_atlases(SLENDER_TO_BROAD[::-1], 8, 3) == once
    assert any(choose_atlases(SLENDER_TO_BROAD, 8, seed) != once for seed in range(5))


def test_whole_pairs_come_first_and_patients_without_a_whole_kidney_never() -> None:
    single = [AtlasCandidate(f"single{index}", 300.0, 1) for index in range(4)]
    none = [AtlasCandidate("none", 300.0, 0)]
    assert choose_atlases([*none, *single, *SLENDER_TO_BROAD[:2]], 3, 0)[:2] == ["p0", "p1"]
    assert choose_atlases([*none, *single], 8, 0) == ["single0", "single1", "single2", "single3"]


def test_a_candidate_counts_kidneys_that_the_scan_shows_whole() -> None:
    grid = Grid.axis_aligned((10, 40, 60), (3.0, 3.0, 3.0))
    image = np.full(grid.shape, -1000, np.int16)
    label = np.zeros(grid.shape, np.uint8)
    image[:, 5:35, 10:50] = 40
    label[2:8, 10:24, 12:27] = 1
    label[4:10, 10:24, 35:50] = 1  # continues beyond the last slice
    assert describe_candidate("a", Volume(image, grid), Volume(label, grid)) == AtlasCandidate("a", 120.0, 1)
    label[:] = 0
    assert describe_candidate("a", Volume(image, grid), Volume(label, grid)).num_kidneys == 0


def test_a_speck_is_no_kidney() -> None:
    grid = Grid.axis_aligned((10, 40, 60), (3.0, 3.0, 3.0))
    image = np.full(grid.shape, 40, np.int16)
    label = np.zeros(grid.shape, np.uint8)
    label[2:8, 10:24, 12:26] = 1  # 1176 voxels of 27 µl: 31.8 ml
    assert describe_candidate("a", Volume(image, grid), Volume(label, grid)).num_kidneys == 1
    label[2:8, 10:24, 25] = 0  # 29.5 ml
    assert describe_candidate("a", Volume(image, grid), Volume(label, grid)).num_kidneys == 0


def test_an_atlas_whose_label_vanishes_is_refused(phantoms: list[PaintedCase]) -> None:
    label = np.zeros_like(phantoms[0].label.array)
    label[30, 50, 50] = 1
    with pytest.raises(InputError, match="atlas 'x': its labels vanish at a spacing of 6 mm"):
        make_atlas("x", phantoms[0].image, Volume(label, phantoms[0].label.grid), CONFIG, synthetic=True)


def test_saved_atlases_come_back(tmp_path: Path, atlases: list[Atlas]) -> None:
    (tmp_path / "atlas.safetensors").write_bytes(atlases_to_bytes(atlases))
    back = load_atlases(tmp_path / "atlas.safetensors")
    assert [(atlas.name, atlas.synthetic) for atlas in back] == [(f"p{index}", True) for index in range(3)]
    for one, two in zip(back, atlases, strict=True):
        assert grid_difference(one.image.grid, two.image.grid) is None
        np.testing.assert_array_equal(one.image.array, two.image.array)
        np.testing.assert_array_equal(one.sides.array, two.sides.array)


def test_a_file_that_holds_no_atlases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of atlases"):
        load_atlases(tmp_path / "absent.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a file of atlases"):
        load_atlases(tmp_path / "other.safetensors")
