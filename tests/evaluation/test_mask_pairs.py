"""Masks of different extents: segmentations that 3D Slicer has cropped, compared in their place."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.grids import oblique_grid
from support.slicer_files import segment_pairs, write_cropped, write_seg_nrrd

from renalnet.commands.evaluate import evaluate
from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.placing import common_grid, placed
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.errors import InputError
from renalnet.evaluation.folders import evaluate_folders
from renalnet.evaluation.mask_pairs import Pair, read_pair

GRID = Grid((9, 8, 6), (0.7, 0.8, 2.5), (-31.5, 12.25, 100.0))
NAMES = segment_pairs(("kidney", 1, 0), ("tumor", 2, 0))
TRUTH = np.s_[1:4, 2:6, 3:7]
PRED = np.s_[2:5, 2:6, 3:8]


def mask(where: tuple[slice, ...]) -> NDArray[np.uint8]:
    array = np.zeros(GRID.shape, np.uint8)
    array[where] = 1
    return array


def whole(path: Path, array: NDArray[np.uint8], grid: Grid = GRID) -> Path:
    write_volume(path, Volume(array, grid))
    return path


def cropped(path: Path, array: NDArray[np.uint8], grid: Grid = GRID) -> Path:
    return write_cropped(path, array, grid, NAMES)


WRITERS = {"cropped truth": (cropped, whole), "cropped prediction": (whole, cropped), "both": (cropped, cropped)}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_cropped_mask_is_compared_in_its_place(tmp_path: Path, kind: str) -> None:
    endings = {whole: "a.nii.gz", cropped: "a.seg.nrrd"}
    for folder, write, where in zip(("truth", "pred"), WRITERS[kind], (TRUTH, PRED), strict=True):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / endings[write], mask(where))
    found = evaluate_folders(tmp_path / "truth", tmp_path / "pred")
    kidney = found["cases"]["a"]["kidney"]
    # 2 × 4 × 4 voxels are common, 48 are true and 60 predicted, of 0.7 × 0.8 × 2.5 mm.
    assert kidney["dice"] == pytest.approx(2 * 32 / (48 + 60))
    assert kidney["volume_pred_ml"] == pytest.approx(60 * 1.4e-3)
    assert found["compared_in_place"] == ["a"]


def test_masks_of_one_grid_are_not_placed(tmp_path: Path) -> None:
    for folder in ("truth", "pred"):
        (tmp_path / folder).mkdir()
        whole(tmp_path / folder / "a.nii.gz", mask(TRUTH))
    assert "compared_in_place" not in evaluate_folders(tmp_path / "truth", tmp_path / "pred")
    pair = Pair(
        write_seg_nrrd(tmp_path / "a.seg.nrrd", [mask(TRUTH)], GRID, NAMES),
        tmp_path / "pred" / "a.nii.gz",
        KIDNEY_TUMOR,
    )
    assert not read_pair(pair).is_placed


def test_a_grid_of_oblique_axes_covers_both_masks(tmp_path: Path) -> None:
    grid = oblique_grid()
    first = np.zeros(grid.shape, np.uint8)
    second = first.copy()
    first[1:3, 1:3, 1:3] = 1
    second[2:4, 2:4, 3:5] = 1
    files = [cropped(tmp_path / f"{name}.seg.nrrd", array, grid) for name, array in (("a", first), ("b", second))]
    one, other = (read_source_mask(file, KIDNEY_TUMOR) for file in files)
    turned_over = Volume(other.array[::-1], reversed_slices(other.grid))
    for part in (other, turned_over):
        both = common_grid(one.grid, part.grid, "b")
        assert both.shape == (3, 3, 4)
        np.testing.assert_array_equal(placed(one, both, "a"), first[1:4, 1:4, 1:5])
        np.testing.assert_array_equal(placed(part, both, "b"), second[1:4, 1:4, 1:5])


def reversed_slices(grid: Grid) -> Grid:
    axes = np.array(grid.direction).reshape(3, 3)
    last = np.array(grid.origin_xyz_mm) + axes[:, 2] * grid.spacing_xyz_mm[2] * (grid.size_xyz[2] - 1)
    direction = tuple((axes * (1, 1, -1)).ravel().tolist())
    return Grid(grid.size_xyz, grid.spacing_xyz_mm, tuple(last.tolist()), direction)


def test_axes_may_run_the_other_way_and_oblique_masks_keep_their_voxels(tmp_path: Path) -> None:
    grid = oblique_grid()
    array = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    files = whole(tmp_path / "a.nii", array, grid), whole(tmp_path / "b.nii", array[::-1], reversed_slices(grid))
    read = read_pair(Pair(*files, KIDNEY_TUMOR))
    np.testing.assert_array_equal(read.truth.array, array)
    np.testing.assert_array_equal(read.pred.array, array)


def test_an_empty_segmentation_of_one_voxel_has_no_place(tmp_path: Path) -> None:
    far = Grid((1, 1, 1), (1.0, 1.0, 1.0), (9e5, 0.0, 0.0))
    empty = write_seg_nrrd(tmp_path / "empty.seg.nrrd", [np.zeros((1, 1, 1), np.uint8)], far, NAMES)
    for truth, pred in (
        (empty, cropped(tmp_path / "a.seg.nrrd", mask(PRED))),
        (whole(tmp_path / "a.nii", mask(TRUTH)), empty),
    ):
        read = read_pair(Pair(truth, pred, KIDNEY_TUMOR))
        assert read.truth.array.any() != read.pred.array.any()
        assert read.truth.grid == read.pred.grid


def test_masks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    moved = Grid(GRID.size_xyz, GRID.spacing_xyz_mm, (-29.75, 12.25, 100.0))
    beside = Grid(GRID.size_xyz, GRID.spacing_xyz_mm, (-28.7, 12.25, 100.0))
    far = Grid(GRID.size_xyz, GRID.spacing_xyz_mm, (9e5, 9e5, 100.0))
    pred = whole(tmp_path / "pred.nii.gz", mask(PRED))
    for grid, words in ((moved, "its voxels are not those of its scan"), (beside, "24 labelled voxels lie outside")):
        with pytest.raises(InputError, match=words):
            read_pair(Pair(cropped(tmp_path / "a.seg.nrrd", mask(TRUTH), grid), pred, KIDNEY_TUMOR))
    near = cropped(tmp_path / "near.seg.nrrd", mask(TRUTH))
    with pytest.raises(InputError, match="lies too far from the mask"):
        read_pair(Pair(near, cropped(tmp_path / "far.seg.nrrd", mask(PRED), far), KIDNEY_TUMOR))
    # A plain file states no extent, so a smaller one is a mask of another scan.
    small = Grid((9, 8, 5), GRID.spacing_xyz_mm, GRID.origin_xyz_mm)
    with pytest.raises(InputError, match="on another grid than"):
        read_pair(Pair(whole(tmp_path / "small.nii", mask(TRUTH)[:5], small), pred, KIDNEY_TUMOR))


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("truth", "pred"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b[1]"):
        cropped(tmp_path / "truth" / f"{name}.seg.nrrd", mask(TRUTH))
        whole(tmp_path / "pred" / f"{name}.nii.gz", mask(PRED))
    evaluate(tmp_path / "truth", tmp_path / "pred", tmp_path / "out.json", workers=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 2 of 2 cases (a, b[1]): one mask covers a part of the other one's grid")
