"""Label maps on the grid of their scan: turned axes, and cropped segmentations of 3D Slicer."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from found_cases import sound_cases
from numpy.typing import NDArray
from support.dicom_files import write_segmentation, write_series
from support.grids import ORIENTATIONS, SIZE, oblique_grid, oriented_grid
from support.slicer_files import segment_pairs, write_seg_nrrd

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.layouts import ScanCase, find_cases, find_scans
from renalnet.data.cases.loading import load_case, load_scan
from renalnet.data.cases.placing import placed, turned
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import Grid, Volume, grid_difference, to_source, write_volume
from renalnet.errors import InputError

GRID = Grid((9, 8, 6), (0.7, 0.8, 2.5), (-31.5, 12.25, 100.0))
NAMES = segment_pairs(("tumor", 1, 0), ("kidney", 2, 0))


def labels(shape: tuple[int, int, int] = GRID.shape) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)


def nifti_of(label: NDArray[np.uint8], grid: Grid) -> nib.Nifti1Image:
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    affine[:3, 3] = grid.origin_xyz_mm
    affine[:2] *= -1
    return nib.Nifti1Image(label.T, affine)


@pytest.mark.parametrize("base", [oriented_grid((0, 1, 2), (1, 1, 1)), oblique_grid()])
def test_a_label_is_turned_onto_its_scan_from_every_order_and_direction(tmp_path: Path, base: Grid) -> None:
    """nibabel, an independent program, reorders the axes."""
    label = labels((SIZE[2], SIZE[1], SIZE[0]))
    write_volume(tmp_path / "image.nii.gz", Volume(np.zeros(base.shape, np.int16), base))
    sound = nifti_of(label, base)
    for axes, flips in ORIENTATIONS:
        nib.save(sound.as_reoriented(np.stack([axes, flips], axis=1)), tmp_path / "label.nii.gz")
        found = turned(read_source_mask(tmp_path / "label.nii.gz", KIDNEY_TUMOR), base)
        np.testing.assert_array_equal(found.array, label)
        assert grid_difference(found.grid, base) is None
        loaded = load_case(ScanCase("a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"))
        if base.is_axis_aligned:
            np.testing.assert_array_equal(loaded.label.array, label)


def test_a_series_and_a_label_whose_rows_run_the_other_way(tmp_path: Path) -> None:
    """As dcm2niix and dicom2nifti write them."""
    label = labels()
    write_series(tmp_path / "ct", np.zeros(GRID.shape, np.int16), GRID)
    nib.save(nifti_of(label, GRID).as_reoriented([[0, 1], [1, -1], [2, 1]]), tmp_path / "label.nii.gz")
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "label.nii.gz"))
    np.testing.assert_array_equal(to_source(loaded.label, loaded.source).array, label)


@pytest.mark.parametrize("flip", [1, -1])
def test_a_turned_label_of_another_place_or_size_is_refused(tmp_path: Path, flip: int) -> None:
    scan = ScanCase("a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    write_volume(scan.image, Volume(np.zeros(GRID.shape, np.int16), GRID))
    moved = replace(GRID, origin_xyz_mm=(-31.5, 13.05, 100.0))
    smaller = replace(GRID, size_xyz=(9, 7, 6))
    for grid, words in ((moved, "origin -31.5×13.05×100 against"), (smaller, "size 9×7×6 against 9×8×6")):
        nib.save(nifti_of(labels(grid.shape), grid).as_reoriented([[0, 1], [1, flip], [2, 1]]), scan.label)
        with pytest.raises(InputError, match=f"on another grid than its image .*{words}.* never resized"):
            load_case(scan)


def cropped(path: Path, grid: Grid = GRID) -> NDArray[np.uint8]:
    """Write the part of a segmentation that has segments; return the labels on the whole grid."""
    whole = np.zeros(GRID.shape, np.uint8)
    whole[2:5, 1:7, 3:8] = labels((3, 6, 5))
    whole[2, 1, 3] = whole[4, 6, 7] = 1
    steps = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    origin = tuple((np.array(grid.origin_xyz_mm) + steps @ (3, 1, 2)).tolist())
    part = replace(grid, size_xyz=(5, 6, 3), origin_xyz_mm=(origin[0], origin[1], origin[2]))
    write_seg_nrrd(path, [whole[2:5, 1:7, 3:8]], part, {**NAMES, "Segmentation_ReferenceImageExtentOffset": "3 1 2"})
    return np.array([0, 2, 1], np.uint8)[whole]


@pytest.mark.parametrize("direction", [GRID.direction, (1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8)])
def test_a_cropped_segmentation_is_put_in_its_place(tmp_path: Path, direction: tuple[float, ...]) -> None:
    grid = replace(GRID, direction=direction)
    expected = cropped(tmp_path / "Segmentation.seg.nrrd", grid)
    write_series(tmp_path / "ct", np.zeros(GRID.shape, np.int16), grid)
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "Segmentation.seg.nrrd"))
    if grid.is_axis_aligned:
        np.testing.assert_array_equal(loaded.label.array, expected)
    assert np.count_nonzero(loaded.label.array == 2) > 0


def test_a_part_may_reach_beyond_the_scan_only_with_background() -> None:
    grid = Grid.axis_aligned((4, 4, 4), (1.0, 1.0, 1.0))
    label = np.zeros((3, 3, 3), np.uint8)
    label[1, 1, 1] = 2
    found = placed(Volume(label, Grid.axis_aligned((3, 3, 3), (1.0, 1.0, 1.0), (-1.0, 2.0, 1.0))), grid, "a")
    assert np.argwhere(found).tolist() == [[0, 3, 2]]
    beyond = Volume(label, Grid.axis_aligned((3, 3, 3), (1.0, 1.0, 1.0), (-2.0, 2.0, 1.0)))
    with pytest.raises(InputError, match="a: 1 labelled voxels lie outside of its scan"):
        placed(beyond, grid, "a")
    far = Volume(label, Grid.axis_aligned((3, 3, 3), (1.0, 1.0, 1.0), (90.0, 2.0, 1.0)))
    with pytest.raises(InputError, match="a: 1 labelled voxels lie outside of its scan"):
        placed(far, grid, "a")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Grid.axis_aligned((2, 2, 2), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0)), "origin"),
        (Grid.axis_aligned((2, 2, 2), (0.5, 0.5, 0.5)), "spacing"),
    ],
)
def test_a_part_between_the_voxels_is_refused(part: Grid, words: str) -> None:
    grid = Grid.axis_aligned((4, 4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=f"its voxels are not those of its scan .{words} .* oversampling of 1"):
        placed(Volume(np.ones((2, 2, 2), np.uint8), part), grid, "a")


def scan_with(folder: Path, image: str, label: str) -> NDArray[np.uint8]:
    write_volume(folder / image, Volume(np.zeros(GRID.shape, np.int16), GRID))
    return cropped(folder / label)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a/imaging.nii.gz", "a/segmentation.seg.nrrd"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.seg.nrrd"),
        ("imagesTr/a.nii.gz", "labelsTr/a.seg.nrrd"),
    ],
)
def test_every_layout_takes_a_segmentation_of_slicer(tmp_path: Path, image: str, label: str) -> None:
    (tmp_path / image).parent.mkdir(parents=True)
    expected = scan_with(tmp_path, image, label)
    if "labelsTr" in label:
        # The numbers of this file are those of other label maps; the segmentation names its own.
        text = json.dumps({"labels": {"background": 0, "kidney": 1, "tumor": 2}})
        (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    (scan,) = sound_cases(tmp_path)
    np.testing.assert_array_equal(load_case(scan).label.array, expected)


def test_a_dicom_segmentation_beside_dataset_json_names_its_own_segments(tmp_path: Path) -> None:
    write_series(tmp_path / "imagesTr" / "a", np.zeros(GRID.shape, np.int16), GRID)
    masks = {"tumor": labels() == 1, "kidney": labels() == 2}
    (tmp_path / "labelsTr").mkdir()
    write_segmentation(tmp_path / "labelsTr" / "a.dcm", masks, GRID)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"kidney": 1, "tumor": 2}}), encoding="utf-8")
    (scan,) = sound_cases(tmp_path)
    np.testing.assert_array_equal(load_case(scan).label.array, np.array([0, 2, 1])[labels()])
    (mapped,) = find_cases(tmp_path, KIDNEY_TUMOR, label_map={1: 0}).cases
    np.testing.assert_array_equal(load_case(mapped).label.array, labels() == 2)


def test_a_segmentation_is_no_scan(tmp_path: Path) -> None:
    cropped(tmp_path / "Segmentation.seg.nrrd")
    with pytest.raises(InputError, match="a segmentation of 3D Slicer, which is no scan"):
        load_scan(tmp_path / "Segmentation.seg.nrrd")
    write_volume(tmp_path / "ct.nrrd", Volume(np.zeros(GRID.shape, np.int16), GRID))
    assert find_scans(tmp_path) == [tmp_path / "ct.nrrd"]
