"""DICOM data sets without preamble and file meta information."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian
from support.dicom_files import Writing, write_segmentation, write_series

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.layouts import find_cases, find_scans
from renalnet.data.cases.loading import load_case, load_scan
from renalnet.data.dicom.file import is_dicom
from renalnet.data.dicom.segmentation_writer import write_segmentation as write_mask
from renalnet.data.dicom.source_series import read_source
from renalnet.data.images.volume import Grid
from renalnet.errors import InputError

GRID = Grid((5, 6, 4), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
HU = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)


def strip(path: Path, *, implicit: bool = True, little: bool = True) -> None:
    """Write a file again as a data set alone."""
    dataset = dcmread(path)
    alone = Dataset({element.tag: element for element in dataset})
    if not little:
        alone.PixelData = np.frombuffer(alone.PixelData, "<u2").astype(">u2").tobytes()
        alone["PixelData"].VR = "OW"
    alone.save_as(path, implicit_vr=implicit, little_endian=little)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_data_sets_alone_are_read(tmp_path: Path, implicit: bool, little: bool) -> None:
    for path in write_series(tmp_path / "p1" / "ct", HU, GRID, Writing(suffix="")):
        strip(path, implicit=implicit, little=little)
        assert b"DICM" not in path.read_bytes()
    write_segmentation(tmp_path / "p1" / "seg.dcm", {"kidney": HU > 0}, GRID)
    assert find_scans(tmp_path) == [tmp_path]
    (scan,) = find_cases(tmp_path, KIDNEY_TUMOR).cases
    loaded = load_case(scan)
    np.testing.assert_array_equal(loaded.image.array, HU)
    np.testing.assert_array_equal(loaded.label.array, HU > 0)


def test_a_mask_of_data_sets_alone_refers_to_them(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "ct", HU, GRID):
        strip(path)
    source = read_source(tmp_path / "ct")
    write_mask(tmp_path / "seg.dcm", (HU > 0).astype(np.uint8), source, labels=KIDNEY_TUMOR, version="1")
    (series,) = dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 4


def test_the_first_elements_of_a_data_set_are_recognised(tmp_path: Path) -> None:
    """Old writers begin with the length of the group, or the character set."""
    for name, head in (
        ("length", "0800 0000 04000000 10000000  0800 0500 0a000000 49534f5f495220313030  0800 1600 02000000 3132"),
        ("set", "0800 0500 02000000 2020  0800 0800 02000000 4158  0800 1600 02000000 3132"),
    ):
        (tmp_path / name).write_bytes(bytes.fromhex(head))
        assert is_dicom(tmp_path / name)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "0800",
        "0800 0500",
        "0800 0500 02000000 2020  0800 0500 02000000 2020  0800 0500 02000000 2020",  # no rising order
        "0800 0500 03000000 202020  0800 0800 02000000 2020  0800 1600 02000000 2020",  # an odd length
        "0800 0500 ffffff00 2020  0800 0800 02000000 2020  0800 1600 02000000 2020",  # too long
        "0800 0500 02000000 2020  3000 0800 02000000 2020  3100 1600 02000000 2020",  # other groups
        "0800 " + "00" * 400,
        "0800 0500 3131 3131",
    ],
)
def test_other_files_are_not_taken_for_data_sets(tmp_path: Path, head: str) -> None:
    (tmp_path / "file").write_bytes(bytes.fromhex(head))
    assert not is_dicom(tmp_path / "file")


def test_compressed_pixels_without_their_syntax_are_refused(tmp_path: Path) -> None:
    from pydicom.uid import RLELossless

    for path in write_series(tmp_path, HU, GRID, Writing(syntax=RLELossless)):
        dataset = dcmread(path)
        alone = Dataset({element.tag: element for element in dataset})
        alone["PixelData"].is_undefined_length = True
        alone.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match=r"its pixels are compressed, but it has no file meta .* export it again"):
        load_scan(tmp_path)


def test_a_file_with_a_syntax_keeps_it(tmp_path: Path) -> None:
    path = write_series(tmp_path, HU, GRID)[0]
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(load_scan(tmp_path)[0].array, HU)
