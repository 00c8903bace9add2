"""Several phases in one SeriesInstanceUID: they are listed, and one is chosen by number, time, label or file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from support.dicom_files import Writing, write_segmentation, write_series

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.layouts import find_cases
from renalnet.data.cases.loading import LoadedCase, load_case, load_scan
from renalnet.data.dicom.segmentation_writer import write_segmentation as write_mask
from renalnet.data.dicom.source_series import read_source
from renalnet.data.images.volume import Grid
from renalnet.errors import ConfigError, InputError

GRID = Grid((5, 6, 8), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
HALFWAY = Grid((5, 6, 8), (0.7, 0.8, 2.0), (-31.5, 12.25, 101.0))
"""Slices halfway between those of `GRID`."""
EARLY, LATE = np.random.default_rng(0).integers(-1024, 2000, (2, *GRID.shape)).astype(np.int16)


def write_phase(folder: Path, hounsfield: Any, phase: int, grid: Grid = GRID, **changes: Any) -> list[Path]:
    """Write a phase with images of its own, in the series of the others."""
    paths = write_series(folder / str(phase), hounsfield, grid, **changes)
    for path in paths:
        dataset = dcmread(path)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{phase}"
        if "AcquisitionTime" not in changes:
            dataset.AcquisitionTime = f"10150{phase}"
        dataset.save_as(path)
    return paths


def write_acquisitions(folder: Path) -> tuple[list[Path], list[Path]]:
    early = write_phase(folder, EARLY, 1, AcquisitionNumber=2)
    return early, write_phase(folder, LATE, 2, AcquisitionNumber=10)


def set_times(paths: list[Path], first: float) -> None:
    """Set a time for each slice, half a second after that of the one before, as a helical scan does."""
    for index, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.AcquisitionTime = f"{first + 0.5 * index:013.6f}"
        dataset.save_as(path)


def test_phases_are_listed_and_chosen_by_number_or_time(tmp_path: Path) -> None:
    write_acquisitions(tmp_path)
    listed = r"2 phases in one series; choose one .* 2 \(8 slices, at 101501\); 10 \(8 slices, at 101502\)$"
    with pytest.raises(InputError, match=listed):
        load_scan(tmp_path)
    for phase, expected in (("2", EARLY), ("101501", EARLY), ("10", LATE), ("101502", LATE)):
        np.testing.assert_array_equal(load_scan(tmp_path, phase=phase)[0].array, expected)
    with pytest.raises(InputError, match="phase '3' names none of them"):
        load_scan(tmp_path, phase="3")


def test_phases_are_told_by_the_pause_between_them(tmp_path: Path) -> None:
    set_times(write_phase(tmp_path, EARLY, 1), 101500)
    set_times(write_phase(tmp_path, LATE, 2), 101540)
    with pytest.raises(InputError, match=r": 101500\.000000 \(8 slices\); 101540\.000000 \(8 slices\)$"):
        load_scan(tmp_path)
    np.testing.assert_array_equal(load_scan(tmp_path, phase="101500.000000")[0].array, EARLY)
    np.testing.assert_array_equal(load_scan(tmp_path, phase="101540.000000")[0].array, LATE)


def test_a_phase_without_its_first_slice_gets_none_of_the_other(tmp_path: Path) -> None:
    early = write_phase(tmp_path, EARLY, 1)
    set_times(early, 101500)
    set_times(write_phase(tmp_path, LATE, 2), 101540)
    early[0].unlink()
    np.testing.assert_array_equal(load_scan(tmp_path, phase="101500.500000")[0].array, EARLY[1:])
    np.testing.assert_array_equal(load_scan(tmp_path, phase="101540.000000")[0].array, LATE)


def test_a_number_that_some_slices_lack_does_not_divide(tmp_path: Path) -> None:
    """Phase 2 would lose three slices in silence. The times still tell the phases apart."""
    early, _ = write_acquisitions(tmp_path)
    for path in early[5:]:
        dataset = dcmread(path)
        del dataset.AcquisitionNumber
        dataset.save_as(path)
    with pytest.raises(InputError, match=r"phase '2' names none of them; .* 101501 \(8 slices\); 101502 \(8 slices\)$"):
        load_scan(tmp_path, phase="2")
    np.testing.assert_array_equal(load_scan(tmp_path, phase="101501")[0].array, EARLY)


def test_phases_between_each_other_are_not_one_volume(tmp_path: Path) -> None:
    """The slices of both are evenly apart, by 1 mm."""
    write_phase(tmp_path, EARLY, 1, AcquisitionNumber=1)
    write_phase(tmp_path, LATE, 2, HALFWAY, AcquisitionNumber=2)
    with pytest.raises(InputError, match="2 phases in one series"):
        load_scan(tmp_path)
    np.testing.assert_array_equal(load_scan(tmp_path, phase="2")[0].array, LATE)


def test_acquisitions_end_to_end_are_one_volume(tmp_path: Path) -> None:
    for index, path in enumerate(write_series(tmp_path, EARLY, GRID)):
        dataset = dcmread(path)
        dataset.AcquisitionNumber = 1 + index // 4
        dataset.save_as(path)
    np.testing.assert_array_equal(load_scan(tmp_path)[0].array, EARLY)
    np.testing.assert_array_equal(load_scan(tmp_path, phase="2")[0].array, EARLY[4:])


def test_a_wish_for_another_phase_than_the_only_one_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, EARLY, GRID, AcquisitionNumber=1)
    np.testing.assert_array_equal(load_scan(tmp_path, phase="1")[0].array, EARLY)
    with pytest.raises(InputError, match=r"1 phase in one series, and phase '2' names none .* 1 \(8 slices\)$"):
        load_scan(tmp_path, phase="2")


@pytest.mark.filterwarnings("ignore:Invalid value for VR TM")
def test_numbers_and_times_that_are_none_are_not_shown(tmp_path: Path) -> None:
    write_phase(tmp_path, EARLY, 1, AcquisitionTime="Secret^Name")
    write_phase(tmp_path, LATE, 2, AcquisitionTime="Secret^Name")
    with pytest.raises(InputError, match="several slices at 100 mm") as caught:
        load_scan(tmp_path)
    assert "ecret" not in str(caught.value)


def test_a_file_selects_its_phase(tmp_path: Path) -> None:
    early, late = write_acquisitions(tmp_path)
    for path in [*early, *late]:
        path.rename(tmp_path / f"{path.parent.name}-{path.name}")
    np.testing.assert_array_equal(load_scan(tmp_path / f"1-{early[3].name}")[0].array, EARLY)
    np.testing.assert_array_equal(load_scan(tmp_path / f"2-{late[3].name}")[0].array, LATE)


def test_a_mask_refers_to_the_slices_of_its_phase(tmp_path: Path) -> None:
    write_acquisitions(tmp_path / "ct")
    kidney = (LATE > 0).astype(np.uint8)
    source = read_source(tmp_path / "ct", phase="10")
    write_mask(tmp_path / "seg.dcm", kidney, source, labels=KIDNEY_TUMOR, version="1")
    (series,) = dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence
    own = {image.ReferencedSOPInstanceUID for image in series.ReferencedInstanceSequence}
    assert own
    assert {uid.rpartition(".")[2] for uid in own} == {"2"}


def only_case(folder: Path, **options: Any) -> LoadedCase:
    (scan,) = find_cases(folder, KIDNEY_TUMOR, **options).cases
    return load_case(scan)


def refer(path: Path, uid: str, images: list[Path]) -> None:
    """Let a segmentation refer to images of a series."""
    dataset = dcmread(path)
    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedInstanceSequence = Items([Dataset() for _ in images])
    for item, image in zip(series.ReferencedInstanceSequence, images, strict=True):
        item.ReferencedSOPInstanceUID = dcmread(image).SOPInstanceUID
    dataset.ReferencedSeriesSequence = Items([series])
    dataset.save_as(path)


def test_a_segmentation_names_its_phase(tmp_path: Path) -> None:
    early, late = write_acquisitions(tmp_path / "p1")
    write_segmentation(tmp_path / "p1" / "seg.dcm", {"kidney": LATE > 0}, GRID)
    for images, expected in ((early, EARLY), (late[2:4], LATE)):
        refer(tmp_path / "p1" / "seg.dcm", "1.2.3.4.1", images)
        np.testing.assert_array_equal(only_case(tmp_path).image.array, expected)
    refer(tmp_path / "p1" / "seg.dcm", "1.2.3.4.1", [])
    with pytest.raises(InputError, match="2 phases in one series"):
        only_case(tmp_path)
    np.testing.assert_array_equal(only_case(tmp_path, phase="2").image.array, EARLY)


@pytest.mark.parametrize("way", ["series", "images", "frames"])
def test_a_segmentation_names_its_series(tmp_path: Path, way: str) -> None:
    """The other series has every other slice, so that a wrong choice would not fit."""
    images = write_series(tmp_path / "p1" / "s3", EARLY, GRID, Writing(number=3, uid="1.2.3.3"))
    half = Grid((5, 6, 4), (0.7, 0.8, 4.0), GRID.origin_xyz_mm)
    write_series(tmp_path / "p1" / "s5", LATE[::2], half, Writing(number=5, uid="1.2.3.5"))
    seg = tmp_path / "p1" / "seg.dcm"
    write_segmentation(seg, {"kidney": EARLY > 0}, GRID)
    with pytest.raises(InputError, match="2 CT series"):
        only_case(tmp_path)
    if way == "frames":
        derive(seg, dcmread(images[0]).SOPInstanceUID)
    else:
        refer(seg, "1.2.3.3" if way == "series" else "1.2.3.77", images if way == "images" else [])
    for options in ({}, {"series": "3"}, {"series": "9"}):  # 9 is the number of another case's series
        loaded = only_case(tmp_path, **options)
        np.testing.assert_array_equal(loaded.image.array, EARLY)
        np.testing.assert_array_equal(loaded.label.array, EARLY > 0)
    with pytest.raises(InputError, match="matches no slice of the CT"):
        only_case(tmp_path, series="5")


def derive(path: Path, uid: str) -> None:
    """Let the first frame of a segmentation refer to the image from which it was drawn."""
    dataset = dcmread(path)
    derivation = Dataset()
    source = Dataset()
    source.ReferencedSOPInstanceUID = uid
    derivation.SourceImageSequence = Items([source])
    dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = Items([derivation])
    dataset.save_as(path)


def test_a_phase_without_dicom_is_refused(tmp_path: Path) -> None:
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).touch()
    with pytest.raises(ConfigError, match=r"phase '1': .* holds no DICOM series; leave the option out"):
        find_cases(tmp_path, KIDNEY_TUMOR, phase="1")
    with pytest.raises(InputError, match="not DICOM, so phase '1' cannot be selected"):
        load_scan(tmp_path / "a" / "imaging.nii.gz", phase="1")
