"""DICOM series: exact voxels, and refusal of damaged series with the positions of their slices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from support.dicom_files import SYNTAXES, Writing, ct_slice, describe_pixels, save, write_series

from renalnet.data.cases.loading import load_scan
from renalnet.data.images.volume import Grid, grid_difference
from renalnet.errors import InputError

GRID = Grid((36, 40, 5), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))


@pytest.fixture
def hounsfield() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_every_transfer_syntax_is_read_to_the_voxel(tmp_path: Path, hounsfield: NDArray[np.int16], syntax: str) -> None:
    write_series(tmp_path / "ct", hounsfield, GRID, Writing(syntax=syntax, suffix=""))
    image, source = load_scan(tmp_path / "ct")
    np.testing.assert_array_equal(image.array, hounsfield)
    assert grid_difference(source, GRID) is None


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    write_series(tmp_path, hounsfield[:2], GRID)
    plane = ct_slice(hounsfield[2], GRID, 2, Writing())
    describe_pixels(plane, np.full(GRID.shape[1:], 300, np.uint16))
    plane.RescaleSlope, plane.RescaleIntercept = 0.5, -100
    save(plane, tmp_path / "third")
    image, _ = load_scan(tmp_path)
    np.testing.assert_array_equal(image.array[:2], hounsfield[:2])
    assert np.unique(image.array[2]).tolist() == [50]


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_becomes_air(tmp_path: Path, padding: int) -> None:
    for index in range(2):
        plane = ct_slice(np.zeros(GRID.shape[1:], np.int16), GRID, index, Writing())
        stored = np.full(GRID.shape[1:], 40, np.int16)
        stored[0, 0] = padding
        plane.PixelData, plane.PixelRepresentation, plane.RescaleIntercept = stored.tobytes(), 1, 0
        save(plane, tmp_path / str(index))
    assert np.unique(load_scan(tmp_path)[0].array).tolist() == [-1024, 40]


def test_the_padding_value_is_air_even_where_it_looks_like_tissue(tmp_path: Path) -> None:
    for index in range(2):
        plane = ct_slice(np.full(GRID.shape[1:], 40, np.int16), GRID, index, Writing())
        stored = np.full(GRID.shape[1:], 1064, np.uint16)
        stored[0, :3] = [63536, 63537, 63538]
        plane.PixelData = stored.tobytes()
        plane.add_new("PixelPaddingValue", "US", 63536)
        plane.add_new("PixelPaddingRangeLimit", "US", 63537)
        save(plane, tmp_path / str(index))
    array = load_scan(tmp_path)[0].array
    assert array[0, 0, :4].tolist() == [-1024, -1024, 32767, 40]


def test_several_series_are_listed_and_chosen_by_number_or_uid(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    write_series(tmp_path / "a", hounsfield, GRID, Writing(number=2, uid="1.2.3.2"))
    write_series(tmp_path / "b", hounsfield[:3], GRID, Writing(number=10, uid="1.2.3.10"))
    listed = r"2 CT series; choose one with --series NUMBER or UID: 2 \(5 slices, 1\.2\.3\.2\); 10 \(3 slices"
    with pytest.raises(InputError, match=listed):
        load_scan(tmp_path)
    assert load_scan(tmp_path, series="10")[0].array.shape[0] == 3
    assert load_scan(tmp_path, series="1.2.3.2")[0].array.shape[0] == 5
    with pytest.raises(InputError, match="series '7' names none"):
        load_scan(tmp_path, series="7")


def test_a_file_selects_its_series(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    paths = write_series(tmp_path, hounsfield, GRID, Writing(number=2, uid="1.2.3.2"))
    write_series(tmp_path, hounsfield[:3], GRID, Writing(number=10, uid="1.2.3.10"))
    np.testing.assert_array_equal(load_scan(paths[1])[0].array, hounsfield)


def test_localizers_screenshots_and_other_files_are_ignored(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    write_series(tmp_path, hounsfield, GRID)
    scout = Writing(number=0, uid="1.2.3.0")
    write_series(tmp_path / "scout", hounsfield[:1], GRID, scout, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    shot = Writing(number=99, uid="1.2.3.99")
    write_series(tmp_path / "dose", hounsfield[:1], GRID, shot, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    directory = Dataset()
    directory.FileSetID = "DISK"
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    (tmp_path / "readme.txt").write_text("burnt by the scanner")
    (tmp_path / "empty").touch()
    np.testing.assert_array_equal(load_scan(tmp_path)[0].array, hounsfield)


def test_a_slice_that_lost_its_kind_is_not_left_out_in_silence(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    last = write_series(tmp_path, hounsfield, GRID)[-1]
    dataset = dcmread(last)
    dataset.Modality = "OT"
    dataset.save_as(last)
    volume, _ = load_scan(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield[:-1])
    assert volume.notes == ("1 image was left out of the series: no CT slice (modality OT)",)
    del dataset.Modality
    dataset.save_as(last)
    np.testing.assert_array_equal(load_scan(tmp_path)[0].array, hounsfield)
    del dataset.Rows
    dataset.save_as(last)
    with pytest.raises(InputError, match="it lacks Rows"):
        load_scan(tmp_path)
    del dataset.SOPClassUID
    dataset.save_as(last)
    with pytest.raises(InputError, match="it lacks SOPClassUID and Modality"):
        load_scan(tmp_path)


def test_folders_without_a_ct_are_refused(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match=r"no CT slices \(no DICOM image, 1 other files ignored\)"):
        load_scan(tmp_path)
    write_series(tmp_path, hounsfield, GRID, Modality="MR")
    with pytest.raises(InputError, match="images of modality MR"):
        load_scan(tmp_path)


def test_missing_and_doubled_slices_are_named_by_position(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    paths = write_series(tmp_path, hounsfield, GRID)
    (tmp_path / "copy").write_bytes(paths[1].read_bytes())
    with pytest.raises(InputError, match=r"several slices at 102 mm \((copy, 002-1\.dcm|002-1\.dcm, copy)\)"):
        load_scan(tmp_path)
    (tmp_path / "copy").unlink()
    paths[2].unlink()
    with pytest.raises(InputError, match=r"distances \(usually 2 mm\), slices missing or too many: 102 to 106 mm"):
        load_scan(tmp_path)


def test_gantry_tilt_is_refused(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    for index, path in enumerate(write_series(tmp_path, hounsfield, GRID)):
        dataset = dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + index * 2.0 * np.tan(np.radians(15)), z]
        dataset.save_as(path)
    with pytest.raises(InputError, match=r"by 15\.0 degrees \(gantry tilt\) from .* 100 to .* 108 mm"):
        load_scan(tmp_path)


def test_a_slice_off_the_others_line_is_refused(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    write_series(tmp_path, hounsfield[:4], GRID)
    beside = ct_slice(hounsfield[2], replace(GRID, origin_xyz_mm=(-30.0, 12.25, 100.0)), 2, Writing())
    save(beside, tmp_path / "002-1.dcm")
    with pytest.raises(InputError, match=r"the slice at -30, 12\.25, 104 mm is 1\.5 mm off the others\' line"):
        load_scan(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("PixelSpacing", [0.9, 0.7], "several pixel spacings"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9, 0.436], "several orientations"),
        ("RescaleSlope", 0, "rescale slope 0"),
        ("NumberOfFrames", 3, "a multi-frame CT"),
        ("SamplesPerPixel", 3, "a colour image"),
    ],
)
def test_slices_that_do_not_belong_together(
    tmp_path: Path, hounsfield: NDArray[np.int16], field: str, value: object, words: str
) -> None:
    path = write_series(tmp_path, hounsfield, GRID)[2]
    dataset = dcmread(path)
    setattr(dataset, field, value)
    dataset.save_as(path)
    with pytest.raises(InputError, match=words):
        load_scan(tmp_path)


@pytest.mark.parametrize("field", ["ImagePositionPatient", "PixelSpacing", "RescaleIntercept", "PixelData"])
def test_a_missing_field_is_named_and_the_patient_is_not(
    tmp_path: Path, hounsfield: NDArray[np.int16], field: str
) -> None:
    path = write_series(tmp_path, hounsfield, GRID)[2]
    dataset = dcmread(path)
    delattr(dataset, field)
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"004-1\.dcm: not readable as DICOM") as caught:
        load_scan(tmp_path)
    assert "ecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_slice_is_not_a_volume(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    write_series(tmp_path, hounsfield[:1], GRID)
    with pytest.raises(InputError, match="1 slice; a volume needs two or more"):
        load_scan(tmp_path)


def test_real_series_has_the_distance_of_its_positions(real_data: Path) -> None:
    _, source = load_scan(real_data / "ct" / "totalsegmentator" / "example_ct_dicom")
    assert source.size_xyz == (512, 512, 20)
    assert source.spacing_xyz_mm == pytest.approx((0.9765625, 0.9765625, 2.0))
    assert source.origin_xyz_mm == pytest.approx((-249.51171875, -437.51171875, -804.5))


def test_real_series_with_copies_and_holes_is_refused_with_their_positions(real_data: Path) -> None:
    with pytest.raises(InputError, match=r"several slices at -90 mm \(CT26\.dcm, CT28\.dcm\).* -512\.5 to -400 mm"):
        load_scan(real_data / "ct" / "dicom_duplicate_positions")
