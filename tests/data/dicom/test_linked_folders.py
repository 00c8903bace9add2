"""Cases whose folders are symbolic links."""

from pathlib import Path

import numpy as np
from support.dicom_files import Writing, write_segmentation, write_series

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.layouts import find_cases, find_scans
from renalnet.data.cases.loading import load_case, load_scan
from renalnet.data.dicom.folders import files_below
from renalnet.data.images.volume import Grid
from renalnet.data.prepare.case_jobs import scan_stamp

GRID = Grid((5, 6, 4), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
HU = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)


def test_a_linked_series_is_read_and_its_changes_are_seen(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "storage" / "deep", HU, GRID)
    case = tmp_path / "cohort" / "p1"
    case.mkdir(parents=True)
    (case / "series").symlink_to(tmp_path / "storage")
    write_segmentation(case / "seg.dcm", {"kidney": HU > 0}, GRID)
    (scan,) = find_cases(tmp_path / "cohort", KIDNEY_TUMOR).cases
    loaded = load_case(scan)
    np.testing.assert_array_equal(loaded.image.array, HU)
    np.testing.assert_array_equal(loaded.label.array, HU > 0)
    before = scan_stamp(scan)
    slices[0].write_bytes(slices[0].read_bytes() + b"\0\0")
    assert scan_stamp(scan) != before


def test_linked_cases_and_linked_files_are_read(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "storage", HU, GRID)
    (tmp_path / "cohort" / "p2").mkdir(parents=True)
    (tmp_path / "cohort" / "p1").symlink_to(tmp_path / "storage")
    for path in slices:
        (tmp_path / "cohort" / "p2" / path.name).symlink_to(path)
    found = find_scans(tmp_path / "cohort")
    assert [scan.name for scan in found] == ["p1", "p2"]
    for scan in found:
        np.testing.assert_array_equal(load_scan(scan)[0].array, HU)


def test_links_in_circles_and_to_other_cases_are_not_followed(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "ct", HU, GRID)
    write_series(tmp_path / "p2" / "ct", HU[:3], GRID, Writing(number=2, uid="1.2.3.2"))
    (tmp_path / "p1" / "again").symlink_to(tmp_path / "p1" / "ct")
    (tmp_path / "p1" / "ct" / "self").symlink_to(tmp_path / "p1" / "ct")
    (tmp_path / "p1" / "ct" / "case").symlink_to(tmp_path / "p1")
    (tmp_path / "p1" / "ct" / "cohort").symlink_to(tmp_path)
    (tmp_path / "p1" / "ct" / "root").symlink_to("/")
    (tmp_path / "p1" / "ct" / "gone").symlink_to(tmp_path / "absent")
    assert len(files_below(tmp_path / "p1")) == 4
    np.testing.assert_array_equal(load_scan(tmp_path / "p1")[0].array, HU)


def test_hidden_files_and_subfolders_are_left_out_on_request(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in files_below(tmp_path)] == ["a", "b", "c"]
    assert [path.name for path in files_below(tmp_path, nested=False)] == ["a", "b"]
