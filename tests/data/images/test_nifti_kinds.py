"""NIfTI-1 and NIfTI-2, in one file and in two; axes off a right angle by rounding; sform and qform that differ."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from support.dicom_files import write_series
from support.grids import ORIGIN, SIZE, SPACING, oblique_grid

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.layouts import find_cases, find_scans
from renalnet.data.cases.loading import ScanCase, load_case, load_scan
from renalnet.data.images.grid import grid_difference
from renalnet.data.images.volume import Grid, Volume, read_volume, to_source, write_volume
from renalnet.data.prepare.case_jobs import scan_stamp
from renalnet.errors import InputError

KINDS = {
    "one.nii": nib.Nifti1Image,
    "one.nii.gz": nib.Nifti1Image,
    "two.nii": nib.Nifti2Image,
    "two.nii.gz": nib.Nifti2Image,
    "pair.hdr": nib.Nifti1Pair,
    "pair.hdr.gz": nib.Nifti1Pair,
    "pair2.hdr": nib.Nifti2Pair,
}
UPRIGHT = np.diag([-0.7, -0.8, 2.5, 1.0])


def random_array(dtype: Any = np.int16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, SIZE[::-1]).astype(dtype)


def oblique_affine() -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.array(oblique_grid().direction).reshape(3, 3) * SPACING
    affine[:3, 3] = ORIGIN
    affine[:2] *= -1
    return affine


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int32])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_what_nibabel_reads(tmp_path: Path, name: str, dtype: type[np.generic], order: str) -> None:
    kind = KINDS[name]
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nib.save(kind(random_array(dtype).T, oblique_affine(), header), tmp_path / name)
    reference = nib.load(tmp_path / name)
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, np.asarray(reference.dataobj).T)
    steps = np.array(volume.grid.direction).reshape(3, 3) * volume.grid.spacing_xyz_mm
    np.testing.assert_allclose(steps * [[-1], [-1], [1]], reference.affine[:3, :3], atol=1e-6)
    np.testing.assert_allclose(np.array(volume.grid.origin_xyz_mm) * (-1, -1, 1), reference.affine[:3, 3], atol=1e-5)


@pytest.mark.parametrize("name", ["two.nii", "pair.hdr"])
def test_every_kind_is_scaled(tmp_path: Path, name: str) -> None:
    image = KINDS[name](random_array().T, UPRIGHT)
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, 2.0 * random_array() - 1024)


def test_a_slope_that_leaves_no_numbers_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random_array().T, UPRIGHT)
    image.header.set_slope_inter(3e38, 0.0)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"slope 3e\+38 and intercept 0 leave no numbers"):
        read_volume(tmp_path / "a.nii")


def write_pair(path: Path, array: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Pair(array.T, UPRIGHT), path)


@pytest.mark.parametrize(
    ("image", "label"),
    [("a/imaging.hdr", "a/segmentation.hdr"), ("imagesTr/a_0000.hdr", "labelsTr/a.hdr"), ("a/dicom", "a/label.hdr")],
)
def test_every_layout_takes_pairs_of_files(tmp_path: Path, image: str, label: str) -> None:
    values = random_array() % 3
    if image.endswith(".hdr"):
        write_pair(tmp_path / image, random_array())
    else:
        grid = Grid(SIZE, SPACING, (0.0, 0.0, 0.0))
        write_series(tmp_path / image, random_array()[:5], Grid((*SIZE[:2], 5), SPACING, grid.origin_xyz_mm))
        values = values[:5]
    write_pair(tmp_path / label, values.astype(np.uint8))
    found = find_cases(tmp_path, KIDNEY_TUMOR)
    (scan,) = found.cases
    assert (found.problems, found.passed_over) == ((), ())
    np.testing.assert_array_equal(load_case(scan).label.array, values)


def test_a_pair_is_a_scan_for_prediction(tmp_path: Path) -> None:
    for name in ("a.hdr", "b.hdr"):
        write_pair(tmp_path / name, random_array())
    assert find_scans(tmp_path) == [tmp_path / "a.hdr", tmp_path / "b.hdr"]
    np.testing.assert_array_equal(load_scan(tmp_path / "a.hdr")[0].array, random_array())


def test_a_change_of_the_voxels_of_a_pair_changes_its_stamp(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.hdr", random_array())
    write_pair(tmp_path / "b.hdr", random_array() % 3)
    scan = ScanCase("a", tmp_path / "a.hdr", tmp_path / "b.hdr")
    before = scan_stamp(scan)
    (tmp_path / "b.img").write_bytes(bytes(500))
    assert scan_stamp(scan) != before


def test_incomplete_pairs_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.hdr", random_array())
    with pytest.raises(InputError, match=r"a\.img: the voxels of a pair of files; name the header"):
        read_volume(tmp_path / "a.img")
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.hdr: 419 bytes of pixels are too few for its size 5×6×7"):
        read_volume(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"a\.hdr: its voxels are missing, in a file a\.img"):
        read_volume(tmp_path / "a.hdr")
    nib.save(nib.AnalyzeImage(random_array().T, UPRIGHT), tmp_path / "old.hdr")
    with pytest.raises(InputError, match=r"old\.hdr: an Analyze header, which contains no orientation"):
        read_volume(tmp_path / "old.hdr")


def sheared(cosine: float) -> NDArray[np.float64]:
    """Return an affine whose third axis leans towards the first one."""
    affine = UPRIGHT.copy()
    affine[0, 2] = -cosine * 2.5
    return affine


@pytest.mark.parametrize("cosine", [1e-5, 1e-4, 5e-4, 9.9e-4])
@pytest.mark.parametrize("name", ["one.nii.gz", "two.nii"])
def test_axes_off_a_right_angle_by_rounding_are_turned_to_it(tmp_path: Path, name: str, cosine: float) -> None:
    for part, array in (("image", random_array()), ("label", (random_array() % 3).astype(np.uint8))):
        made = KINDS[name](array.T, sheared(cosine))
        made.set_sform(sheared(cosine), 1)
        made.set_qform(None, 0)
        nib.save(made, tmp_path / f"{part}-{name}")
    scan = ScanCase("a", tmp_path / f"image-{name}", tmp_path / f"label-{name}")
    loaded = load_case(scan)
    direction = np.array(loaded.source.direction).reshape(3, 3)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    # Each of the two axes is turned by half of the angle.
    np.testing.assert_allclose([direction[0, 2], -direction[2, 0]], cosine / 2, rtol=1e-4)
    assert loaded.source.spacing_xyz_mm == pytest.approx(SPACING, rel=1e-6)
    # What is written on this grid can be read everywhere, and lies on the scan.
    write_volume(tmp_path / "mask.nii.gz", to_source(loaded.label, loaded.source))
    assert sitk.ReadImage(str(tmp_path / "mask.nii.gz")).GetSize() == SIZE
    assert grid_difference(read_volume(tmp_path / "mask.nii.gz").grid, loaded.source) is None


def test_axes_far_from_a_right_angle_are_refused(tmp_path: Path) -> None:
    made = nib.Nifti1Image(random_array().T, sheared(1.1e-3))
    made.set_qform(None, 0)
    nib.save(made, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"not at right angles \(cosine 0\.0011, at most 0\.001\)"):
        read_volume(tmp_path / "a.nii")


def test_axes_of_nrrd_and_metaimage_are_turned_likewise(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(random_array())
    image.SetDirection((1.0, 0.0, 5e-4, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
        grid = read_volume(tmp_path / name).grid
        assert (grid.direction[2], grid.direction[6]) == pytest.approx((2.5e-4, -2.5e-4), rel=1e-3)
        write_volume(tmp_path / "mask.nii.gz", Volume(random_array(), grid))
        assert grid_difference(read_volume(tmp_path / "mask.nii.gz").grid, grid) is None


@pytest.mark.parametrize("codes", [(2, 2), (4, 4), (1, 1), (4, 1), (2, 1), (3, 2)])
def test_the_sform_places_the_volume_where_the_qform_is_a_little_off(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nib.Nifti1Image(random_array().T, oblique_affine())
    image.set_sform(oblique_affine(), codes[0])
    moved = oblique_affine()
    moved[0, 3] += 0.2
    image.set_qform(moved, codes[1])
    nib.save(image, tmp_path / "a.nii")
    grid = read_volume(tmp_path / "a.nii").grid
    np.testing.assert_allclose(grid.origin_xyz_mm, ORIGIN, atol=1e-5)
    np.testing.assert_allclose(nib.load(tmp_path / "a.nii").affine[:3, 3] * (-1, -1, 1), ORIGIN, atol=1e-5)
