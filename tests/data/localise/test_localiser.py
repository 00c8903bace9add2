"""Localisation by atlases of phantoms: kidneys of other phantoms and of a patient, and images without kidneys."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Box, Side, split_sides
from renalnet.data.images.resampling import regrid_image
from renalnet.data.images.volume import Grid, Volume, canonical, read_volume
from renalnet.data.localise.atlas import Atlas, make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE, Evidence, Localisation, localise
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_other_part
from renalnet.errors import InputError
from renalnet.types import MaskArray

CONFIG = PrepareConfig()
COARSE = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")
LIKE_A_KIDNEY = Evidence(0.6, 0.9, 0.97, 160.0, 170.0)


@pytest.fixture(scope="module")
def atlases() -> list[Atlas]:
    painted = [paint_abdomen(COARSE, index) for index in range(4)]
    return [
        make_atlas(f"p{index}", phantom.image, phantom.label, CONFIG, synthetic=True)
        for index, phantom in enumerate(painted)
    ]


@pytest.fixture(scope="module")
def phantom() -> PaintedCase:
    return paint_abdomen(COARSE.model_copy(update={"seed": 5}), 0)


def kidneys_of(phantom: PaintedCase) -> dict[Side, MaskArray]:
    sides = split_sides(phantom.label, phantom.image)
    return {side: sides == SIDE_VALUES[side] for side in SIDES}


def part_of(volume: Volume, first: int, last: int) -> Volume:
    """Return the slices from `first` up to but not including `last`."""
    z, y, x = volume.grid.origin_mm
    z += first * volume.grid.spacing_mm[0]
    array = np.ascontiguousarray(volume.array[first:last])
    return Volume(array, Grid.axis_aligned(array.shape, volume.grid.spacing_mm, (z, y, x)))


def assert_held(found: Localisation, side: Side, mask: MaskArray, grid: Grid, share: float = 0.995) -> None:
    box = found.box(side)
    own = Box.around(mask, grid)
    assert box is not None
    assert own is not None
    assert side in found.confident_sides
    assert box.share_of(mask, grid) >= share
    assert box.size_mm[0] <= own.size_mm[0] + 40
    assert all(size <= max(110, extent + 20) for size, extent in zip(box.size_mm[1:], own.size_mm[1:], strict=True))


@pytest.mark.slow
def test_boxes_hold_both_kidneys_and_little_else(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    found = localise(phantom.image, atlases, CONFIG)
    for side, mask in kidneys_of(phantom).items():
        assert_held(found, side, mask, phantom.label.grid)


@pytest.mark.slow
def test_a_scan_that_ends_at_the_kidneys_suffices(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    filled = np.flatnonzero(phantom.label.array.any(axis=(1, 2)))
    image, label = (part_of(v, filled[0] - 4, filled[-1] + 5) for v in (phantom.image, phantom.label))
    found = localise(image, atlases, CONFIG)
    for side, mask in kidneys_of(PaintedCase(image, label, phantom.truth)).items():
        assert_held(found, side, mask, label.grid)


@pytest.mark.slow
def test_a_long_scan_is_searched_from_end_to_end(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    head = paint_other_part("head", COARSE, 0)
    z, y, x = phantom.image.grid.origin_mm
    image = np.concatenate([phantom.image.array, phantom.image.array[-1:].repeat(20, axis=0), head.array])
    grid = Grid.axis_aligned(image.shape, phantom.image.grid.spacing_mm, (z, y, x))
    found = localise(Volume(image, grid), atlases, CONFIG)
    for side, mask in kidneys_of(phantom).items():
        assert_held(found, side, mask, phantom.label.grid)


@pytest.mark.slow
def test_a_missing_kidney_is_not_found(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    kidneys = kidneys_of(phantom)
    image = phantom.image.array.copy()
    image[kidneys["left"]] = np.random.default_rng(0).normal(-100, 14, np.count_nonzero(kidneys["left"]))
    found = localise(Volume(image, phantom.image.grid), atlases, CONFIG)
    assert found.confident_sides == ("right",)
    assert_held(found, "right", kidneys["right"], phantom.label.grid)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["head", "air", "one value", "noise", "lungs", "upside down"])
def test_images_without_kidneys_are_doubtful(phantom: PaintedCase, atlases: list[Atlas], what: str) -> None:
    shape = phantom.image.array.shape
    grid = phantom.image.grid
    noise = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    top = int(np.flatnonzero(phantom.label.array.any(axis=(1, 2)))[-1]) + 2
    image = {
        "head": paint_other_part("head", COARSE, 1),
        "air": Volume(np.full(shape, -1000, np.int16), grid),
        "one value": Volume(np.zeros(shape, np.int16), grid),
        "noise": Volume(noise, grid),
        "lungs": part_of(phantom.image, top, shape[0]),
        "upside down": Volume(np.ascontiguousarray(phantom.image.array[::-1]), grid),
    }[what]
    found = localise(image, atlases, CONFIG)
    assert found.confidence < LOW_CONFIDENCE
    assert found.confident_sides == ()


@pytest.mark.slow
def test_a_case_is_not_compared_with_its_own_atlas(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    assert localise(phantom.image, atlases[:3], CONFIG, exclude="p2") == localise(phantom.image, atlases[:2], CONFIG)
    with pytest.raises(InputError, match="no atlas to localise with"):
        localise(phantom.image, atlases[:1], CONFIG, exclude="p0")


@pytest.mark.slow
def test_a_single_slice_and_a_single_voxel_have_no_kidneys(atlases: list[Atlas]) -> None:
    for shape in ((1, 40, 40), (1, 1, 1)):
        speck = Volume(np.full(shape, 40, np.int16), Grid.axis_aligned(shape, (5.0, 3.0, 3.0)))
        assert localise(speck, atlases, CONFIG).confident_sides == ()


def test_confidence_falls_with_each_piece_of_evidence() -> None:
    assert LIKE_A_KIDNEY.confidence == 1
    for worse in (
        {"similarity": 0.2},
        {"overlap": 0.3},
        {"darker_share": 0.1},
        {"volume_ml": 15.0},
        {"volume_ml": 900.0},
    ):
        assert Evidence(**{**vars(LIKE_A_KIDNEY), **worse}).confidence == 0


@pytest.mark.slow
def test_a_side_that_no_atlas_has_is_not_found(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    right = [
        Atlas(
            a.name,
            a.image,
            Volume(np.where(a.sides.array == SIDE_VALUES["left"], 0, a.sides.array), a.sides.grid),
            True,
        )
        for a in atlases
    ]
    found = localise(phantom.image, right, CONFIG)
    assert found.left is None
    assert found.confidence_of("left") == 0
    assert found.confident_sides == ("right",)


@pytest.mark.slow
def test_an_atlas_without_kidneys_is_ignored(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    nothing = np.zeros_like(atlases[2].sides.array)
    blank = Atlas("blank", atlases[2].image, Volume(nothing, atlases[2].sides.grid), True)
    assert localise(phantom.image, [blank, *atlases[:2]], CONFIG) == localise(phantom.image, atlases[:2], CONFIG)
    assert localise(phantom.image, [blank], CONFIG) == Localisation(None, None)


@pytest.mark.slow
def test_an_atlas_with_one_labelled_voxel_finds_no_kidney(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    for column in range(20, 25):  # some vanish when the atlas is tried at a smaller size
        speck = np.zeros_like(atlases[0].sides.array)
        speck[20, 30, column] = SIDE_VALUES["left"]
        found = localise(
            phantom.image, [Atlas("speck", atlases[0].image, Volume(speck, atlases[0].sides.grid), True)], CONFIG
        )
        assert found.confident_sides == ()
        assert 0 <= found.confidence <= 1


@pytest.mark.slow
def test_both_kidneys_of_a_real_patient_are_found(real_data: Path) -> None:
    folder = real_data / "ct" / "totalsegmentator"
    scan = canonical(read_volume(folder / "example_ct.nii.gz"), is_label=False)
    fine = PhantomConfig(seed=1, contrast="narrow")
    painted = [paint_abdomen(fine, index) for index in range(8)]
    used = [make_atlas(f"p{i}", p.image, p.label, CONFIG, synthetic=True) for i, p in enumerate(painted)]
    found = localise(scan, used, CONFIG)
    for side in SIDES:
        truth = canonical(read_volume(folder / f"kidney_{side}.nii.gz"), is_label=True)
        assert_held(found, side, truth.array > 0, truth.grid, share=0.99)


@pytest.mark.slow
def test_thick_slices_suffice(phantom: PaintedCase, atlases: list[Atlas]) -> None:
    shape = (30, *phantom.image.grid.shape[1:])
    z, y, x = phantom.image.grid.origin_mm
    thick = Grid.axis_aligned(shape, (10.0, *phantom.image.grid.spacing_mm[1:]), (z + 2.5, y, x))
    found = localise(regrid_image(phantom.image, thick, -1000.0), atlases, CONFIG)
    for side, mask in kidneys_of(phantom).items():
        box = found.box(side)
        assert box is not None
        assert box.share_of(mask, phantom.label.grid) > 0.97
