"""Folders of scans: detection of cases, loading, and refusal of unsuitable files."""

from pathlib import Path

import numpy as np
import pytest
from found_cases import sound_cases
from numpy.typing import NDArray

from renalnet.data.cases.loading import ScanCase, load_case, load_scan
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.errors import InputError

GRID = Grid.axis_aligned((2, 3, 4), (2.0, 1.0, 1.0))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def scan_of(folder: Path, image: NDArray[np.generic], label: NDArray[np.generic], grid: Grid = GRID) -> ScanCase:
    scan = ScanCase("a", folder / "imaging.nii.gz", folder / "segmentation.nii.gz")
    write_volume(scan.image, Volume(image, GRID))
    write_volume(scan.label, Volume(label, grid))
    return scan


def test_kits_layout_is_sorted_and_skips_other_folders(tmp_path: Path) -> None:
    for case in ("case_00002", "case_00001"):
        touch(tmp_path / case / "imaging.nii.gz", tmp_path / case / "segmentation.nii.gz")
    touch(tmp_path / "notes" / "readme.txt", tmp_path / "cohort.json")
    cases = sound_cases(tmp_path)
    assert [scan.case for scan in cases] == ["case_00001", "case_00002"]
    assert cases[0].label == tmp_path / "case_00001" / "segmentation.nii.gz"


@pytest.mark.parametrize("suffix", ["", "_0000"])
def test_decathlon_and_nnunet_layouts(tmp_path: Path, suffix: str) -> None:
    image, label = (
        tmp_path / "imagesTr" / f"kidney_1{suffix}.nii.gz",
        tmp_path / "labelsTr" / "kidney_1.nii.gz",
    )
    touch(image, label, tmp_path / "imagesTr" / "._kidney_1.nii.gz")
    assert sound_cases(tmp_path) == [ScanCase("kidney_1", image, label)]


def test_partners_and_folders_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        sound_cases(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no cases; expected"):
        sound_cases(tmp_path)
    touch(tmp_path / "a" / "imaging.nii.gz")
    with pytest.raises(InputError, match=r"a: .*imaging\.nii\.gz: has no label"):
        sound_cases(tmp_path)


def test_label_without_image_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "labelsTr" / "b.nii.gz")
    with pytest.raises(InputError, match=r"b: .*b\.nii\.gz: label without image"):
        sound_cases(tmp_path)


def test_hounsfield_are_rounded_and_clamped(tmp_path: Path) -> None:
    image = np.zeros(GRID.shape, np.float32)
    image[0, 0] = [-2000.0, -1024.4, 39.6, 70000.0]
    loaded = load_case(scan_of(tmp_path, image, np.zeros(GRID.shape, np.uint8)))
    assert loaded.image.array.dtype == np.int16
    assert loaded.image.array[0, 0].tolist() == [-1024, -1024, 40, 32767]
    assert load_scan(tmp_path / "imaging.nii.gz")[0].array[0, 0].tolist() == [-1024, -1024, 40, 32767]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64, np.int16])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type[np.generic]) -> None:
    label = np.arange(24).reshape(GRID.shape) % 3
    loaded = load_case(scan_of(tmp_path, np.zeros(GRID.shape, np.int16), label.astype(dtype)))
    assert loaded.label.array.dtype == np.uint8
    np.testing.assert_array_equal(loaded.label.array, label)


@pytest.mark.parametrize("value", [7, 1.5])
def test_other_label_values_are_named(tmp_path: Path, value: float) -> None:
    scan = scan_of(tmp_path, np.zeros(GRID.shape, np.int16), np.full(GRID.shape, value, np.float32))
    with pytest.raises(InputError, match=rf"segmentation\.nii\.gz: label value {value:g} is none of"):
        load_case(scan)


def test_a_label_on_another_grid_is_never_resized(tmp_path: Path) -> None:
    shifted = Grid.axis_aligned(GRID.shape, GRID.spacing_mm, (0.0, 0.0, 1.0))
    scan = scan_of(tmp_path, np.zeros(GRID.shape, np.int16), np.zeros(GRID.shape, np.uint8), shifted)
    with pytest.raises(InputError, match=r"another grid than its image imaging\.nii\.gz \(origin .* never resized"):
        load_case(scan)


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nii", ".nii.gz"])
def test_images_that_are_not_finite_are_refused(tmp_path: Path, ending: str) -> None:
    scan = scan_of(tmp_path, np.zeros(GRID.shape, np.int16), np.zeros(GRID.shape, np.uint8))
    write_volume(tmp_path / f"image{ending}", Volume(np.full(GRID.shape, np.nan, np.float32), GRID))
    with pytest.raises(InputError, match="not finite"):
        load_case(ScanCase("a", tmp_path / f"image{ending}", scan.label))


@pytest.mark.parametrize("lowest", [-1000, 0])
def test_a_swapped_image_and_label_map_are_named(tmp_path: Path, lowest: int) -> None:
    image = np.full(GRID.shape, lowest, np.int16)
    image[0, 0] = [7, 900, 40, 1]
    label = (np.arange(24).reshape(GRID.shape) % 3).astype(np.uint8)
    scan = scan_of(tmp_path, label, image)
    with pytest.raises(InputError, match=r"imaging\.nii\.gz: holds only label values \(0 to 2\).*seem to be swapped"):
        load_case(scan)
    with pytest.raises(InputError, match=r"label value -?\d+ is none of 0 background"):
        load_case(scan_of(tmp_path, image, image))
