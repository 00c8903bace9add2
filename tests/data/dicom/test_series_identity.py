"""Which images make one series, although identifiers are missing, and what is left out as a localizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support.dicom_files import Writing, write_series

from renalnet.data.cases.loading import load_scan
from renalnet.data.images.volume import Grid
from renalnet.errors import InputError

GRID = Grid((5, 6, 8), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
OTHER = Grid((5, 6, 8), (0.9, 0.9, 2.0), (-31.5, 12.25, 100.0))
CORONAL = [1, 0, 0, 0, 0, -1]
HU = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)


def edit(paths: list[Path], change: Callable[[Dataset], object]) -> None:
    for path in paths:
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)


def delete(*names: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return change


@pytest.mark.parametrize("series", [None, "1", "1.2.3.4.1"])
@pytest.mark.parametrize("wanted", [slice(6, 8), slice(0, 3), slice(0, 7)], ids=["last", "first", "most"])
@pytest.mark.parametrize("name", ["SeriesNumber", "SeriesInstanceUID"])
def test_slices_that_lack_an_identifier_stay_in_their_series(
    tmp_path: Path, name: str, wanted: slice, series: str | None
) -> None:
    changed = write_series(tmp_path, HU, GRID)[wanted]
    edit(changed, delete(name))
    image, _ = load_scan(tmp_path, series=series)
    np.testing.assert_array_equal(image.array, HU)
    (note,) = image.notes
    assert note.startswith(f"{len(changed)} of 8 slices lack {name}; ")


def test_without_any_uid_the_number_decides_and_strays_join_by_geometry(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", HU, GRID)
    edit(paths, delete("SeriesInstanceUID"))
    edit(paths[5:], delete("SeriesNumber"))
    edit(write_series(tmp_path / "b", HU[:4], OTHER, Writing(number=2)), delete("SeriesInstanceUID"))
    image, _ = load_scan(tmp_path, series="1")
    np.testing.assert_array_equal(image.array, HU)
    assert image.notes == ("3 of 8 slices lack SeriesNumber; by their geometry they belong to its volume",)
    assert load_scan(tmp_path, series="2")[0].array.shape == (4, 6, 5)


def test_a_series_without_any_identifier_is_read(tmp_path: Path) -> None:
    edit(write_series(tmp_path, HU, GRID), delete("SeriesInstanceUID", "SeriesNumber", "SOPInstanceUID"))
    image, _ = load_scan(tmp_path)
    np.testing.assert_array_equal(image.array, HU)
    assert image.notes == ()


def test_strays_of_two_alike_series_are_told_by_number_and_else_refused(tmp_path: Path) -> None:
    """A stray slice is never dropped in silence, whichever series is chosen."""
    strays = write_series(tmp_path / "a", HU, GRID, Writing(number=2, uid="1.2.3.2"))[6:]
    write_series(tmp_path / "b", HU[::-1], GRID, Writing(number=3, uid="1.2.3.3"))
    edit(strays, delete("SeriesInstanceUID"))
    np.testing.assert_array_equal(load_scan(tmp_path, series="2")[0].array, HU)
    np.testing.assert_array_equal(load_scan(tmp_path, series="3")[0].array, HU[::-1])
    edit(strays, delete("SeriesNumber"))
    with pytest.raises(
        InputError, match=r"a: 2 CT images such as .*\.dcm lack SeriesInstanceUID, .* folder of its own"
    ):
        load_scan(tmp_path, series="2")


def test_strays_of_two_alike_series_are_told_by_frame_of_reference(tmp_path: Path) -> None:
    first = write_series(tmp_path / "a", HU, GRID, Writing(number=2, uid="1.2.3.2"), FrameOfReferenceUID="1.2.9.1")
    write_series(tmp_path / "b", HU, GRID, Writing(number=3, uid="1.2.3.3"), FrameOfReferenceUID="1.2.9.2")
    edit(first[6:], delete("SeriesInstanceUID", "SeriesNumber"))
    np.testing.assert_array_equal(load_scan(tmp_path, series="2")[0].array, HU)


def test_one_uid_is_one_series_whatever_its_numbers(tmp_path: Path) -> None:
    edit(write_series(tmp_path, HU, GRID)[4:], lambda dataset: setattr(dataset, "SeriesNumber", 7))
    for series in (None, "1", "7"):
        image, _ = load_scan(tmp_path, series=series)
        np.testing.assert_array_equal(image.array, HU)
        assert image.notes == ("its 8 slices state several series numbers: 1, 7",)


def test_slices_with_a_series_each_are_one_volume(tmp_path: Path) -> None:
    edit(write_series(tmp_path, HU, GRID), lambda one: setattr(one, "SeriesInstanceUID", one.SOPInstanceUID))
    image, _ = load_scan(tmp_path)
    np.testing.assert_array_equal(image.array, HU)
    assert image.notes == ("its 8 slices have 8 SeriesInstanceUIDs, and the geometry of one volume",)


def test_single_images_at_one_place_are_no_volume(tmp_path: Path) -> None:
    for number in range(4):
        write_series(tmp_path, HU[:1], GRID, Writing(number=number, uid=f"1.2.3.{number}"), SeriesNumber=9)
    with pytest.raises(InputError, match="holds 4 CT series; choose one"):
        load_scan(tmp_path)


@pytest.mark.parametrize("views", [[CORONAL], [CORONAL, [0, 1, 0, 0, 0, -1]]], ids=["frontal", "both"])
@pytest.mark.parametrize("uid", ["1.2.3.4.1", "1.2.3.9"], ids=["same-series", "own-series"])
def test_localizers_without_image_type_are_left_out_and_counted(
    tmp_path: Path, uid: str, views: list[list[int]]
) -> None:
    write_series(tmp_path / "ct", HU, GRID, ImageType=None)
    for index, view in enumerate(views):
        scout = Writing(number=0 if uid == "1.2.3.9" else 1, uid=uid)
        write_series(tmp_path / f"{index}", HU[:1, :, :4], GRID, scout, ImageType=None, ImageOrientationPatient=view)
    image, _ = load_scan(tmp_path)
    np.testing.assert_array_equal(image.array, HU)
    (note,) = image.notes
    assert "left out as a localizer" in note
    assert f"{len(views)} image" in note or f"({len(views)} slices, 1.2.3.9)" in note


def test_a_third_steep_image_is_no_localizer(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", HU, GRID)
    write_series(tmp_path / "more", HU[:3], GRID, ImageOrientationPatient=CORONAL)
    with pytest.raises(InputError, match="slices of several orientations"):
        load_scan(tmp_path)


def test_a_slice_of_another_series_in_the_same_plane_is_not_left_out(tmp_path: Path) -> None:
    """It may be a slice of the volume whose UID was damaged."""
    last = write_series(tmp_path, HU, GRID)[7:]
    edit(last, lambda dataset: setattr(dataset, "SeriesInstanceUID", "1.2.3.9"))
    with pytest.raises(InputError, match="holds 2 CT series; choose one"):
        load_scan(tmp_path)


def test_a_file_selects_its_series_without_its_number(tmp_path: Path) -> None:
    paths = write_series(tmp_path, HU, GRID, Writing(number=2, uid="1.2.3.2"))
    write_series(tmp_path, HU[:3], OTHER, Writing(number=10, uid="1.2.3.10"))
    edit(paths[5:], delete("SeriesNumber"))
    for path in (paths[0], paths[7]):
        np.testing.assert_array_equal(load_scan(path)[0].array, HU)
