"""Series whose directions are rounded, so that rows and columns are not quite orthonormal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from support.dicom_files import write_segmentation, write_series

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.loading import ScanCase, load_case
from renalnet.data.dicom.series import read_series
from renalnet.data.dicom.slices import Slice, direction_error, ordered_slices
from renalnet.data.images.volume import Grid, Volume, to_itk
from renalnet.errors import InputError

TURN = Rotation.from_euler("xyz", [7.3, -4.9, 11.7], degrees=True).as_matrix()
GRID = Grid((60, 50, 40), (0.8, 0.9, 1.8), (-31.5, 12.25, 100.0), tuple(TURN.ravel().tolist()))
KIDNEY = np.zeros(GRID.shape, bool)
KIDNEY[10:30, 10:40, 15:45] = True
HU = np.where(KIDNEY, 150, -100).astype(np.int16)


def stated(decimals: int) -> list[float]:
    return np.round([*TURN[:, 0], *TURN[:, 1]], decimals).tolist()


def write(folder: Path, decimals: int) -> None:
    """Write slices at their exact positions, whose directions are rounded."""
    write_series(folder, HU, GRID, ImageOrientationPatient=stated(decimals))


def axes_of(grid: Grid) -> NDArray[np.float64]:
    return np.array(grid.direction).reshape(3, 3)


@pytest.mark.parametrize("decimals", [2, 3, 4, 5])
def test_rounded_directions_are_made_orthonormal(tmp_path: Path, decimals: int) -> None:
    """The slice direction is exact. Rows and columns keep the rounding, which moves them by √3 / 2 of a decimal."""
    write(tmp_path, decimals)
    image = read_series(tmp_path)
    np.testing.assert_allclose(image.grid.spacing_xyz_mm, GRID.spacing_xyz_mm, atol=1e-7)
    axes = axes_of(image.grid)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[:, 2], TURN[:, 2], atol=1e-7)
    assert np.abs(axes - TURN).max() <= np.sqrt(3) * 0.5 * 10.0**-decimals


def test_slices_along_the_rounded_normal_are_read_as_by_itk(tmp_path: Path) -> None:
    """ITK's GDCM reader is the independent one."""
    orientation = stated(2)
    normal = np.cross(orientation[:3], orientation[3:])
    normal /= np.linalg.norm(normal)
    along = replace(GRID, direction=tuple(np.column_stack([TURN[:, :2], normal]).ravel().tolist()))
    write_series(tmp_path, HU, along, ImageOrientationPatient=orientation)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    expected = reader.Execute()
    image = read_series(tmp_path)
    np.testing.assert_array_equal(image.array, sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(image.grid.direction, expected.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(image.grid.spacing_xyz_mm, expected.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.grid.origin_xyz_mm, expected.GetOrigin(), atol=1e-6)


def by_rows(orientation: list[float]) -> NDArray[np.float64]:
    """Return orthonormal axes that keep the row, where ITK keeps the column."""
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    normal = np.cross(row, orientation[3:])
    normal /= np.linalg.norm(normal)
    return np.column_stack([row, np.cross(normal, row), normal])


@pytest.mark.parametrize("axes", ["exact", "by-rows"])
@pytest.mark.parametrize("decimals", [2, 3])
def test_labels_of_other_readers_are_on_the_grid(tmp_path: Path, decimals: int, axes: str) -> None:
    write(tmp_path / "ct", decimals)
    direction = TURN if axes == "exact" else by_rows(stated(decimals))
    label = to_itk(Volume(KIDNEY.astype(np.uint8), replace(GRID, direction=tuple(direction.ravel().tolist()))))
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "label.nii.gz"))
    # Both were resampled by the same grid, so that the label marks the bright voxels.
    bright = loaded.image.array > 25
    assert np.count_nonzero(bright ^ (loaded.label.array > 0)) < 0.05 * np.count_nonzero(bright)


@pytest.mark.parametrize("decimals", [2, 3])
def test_segmentations_are_in_place(tmp_path: Path, decimals: int) -> None:
    write(tmp_path / "ct", decimals)
    write_segmentation(tmp_path / "exact.dcm", {"kidney": KIDNEY}, GRID)
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "exact.dcm"))
    bright = loaded.image.array > 25
    assert np.count_nonzero(bright ^ (loaded.label.array > 0)) < 0.05 * np.count_nonzero(bright)
    assert loaded.labels == KIDNEY_TUMOR


def test_a_label_turned_by_more_than_the_rounding_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "ct", 3)
    turned = TURN @ Rotation.from_euler("z", 0.5, degrees=True).as_matrix()
    label = to_itk(Volume(KIDNEY.astype(np.uint8), replace(GRID, direction=tuple(turned.ravel().tolist()))))
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))
    with pytest.raises(InputError, match="on another grid than its image"):
        load_case(ScanCase("a", tmp_path / "ct", tmp_path / "label.nii.gz"))


def slices_of(orientation: list[float], tilt: float = 0.0) -> list[Slice]:
    normal = np.cross(orientation[:3], orientation[3:])
    step = normal / np.linalg.norm(normal) + tilt * np.array(orientation[3:])
    return [
        Slice(Path(f"{index}"), (50, 60), (0.9, 0.8), tuple((index * 2 * step).tolist()), tuple(orientation))
        for index in range(5)
    ]


@pytest.mark.parametrize("orientation", [[0.9, 0.2, 0, -0.2, 1, 0], [1, 0, 0, 0.03, 1, 0], [1, 0, 0, 1, 0, 0]])
def test_directions_that_no_rounding_explains_are_refused(orientation: list[float]) -> None:
    slices = [replace(one, orientation=tuple(orientation)) for one in slices_of([1.0, 0, 0, 0, 1, 0])]
    with pytest.raises(InputError, match=r"ct: the directions .* more than by rounding to 2 decimals"):
        ordered_slices(slices, "ct")


def test_tilt_is_allowed_as_far_as_rounding_explains_it() -> None:
    """Two decimals explain √6 × 0.005 = 0.0122; directions of unit length and at right angles are not rounded."""
    ordered_slices(slices_of(stated(2), 0.01), "ct")
    with pytest.raises(InputError, match="gantry tilt"):
        ordered_slices(slices_of(stated(2), 0.02), "ct")
    for exact in ([1.0, 0, 0, 0, 1, 0], [1.0, 0, 0, 0, 0.8, 0.6]):
        assert direction_error(exact) == 0
        with pytest.raises(InputError, match="gantry tilt"):
            ordered_slices(slices_of(exact, 0.01), "ct")


def test_the_error_of_directions_follows_from_their_decimals() -> None:
    """Half of the last decimal moves the normal by √6 times as much; row and column have the cosine -3.79e-4."""
    assert direction_error(stated(3)) == pytest.approx(np.sqrt(6) * 5e-4 + 3.79e-4, abs=1e-9)
