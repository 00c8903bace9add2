"""NIfTI, NRRD and MetaImage: voxels and geometry as independent readers report them, and files that are refused."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from support.grids import ORIENTATIONS, ORIGIN, SIZE, SPACING, oblique_grid, oriented_grid

from renalnet.data.cases.loading import ScanCase, load_case
from renalnet.data.images.volume import (
    Grid,
    Volume,
    canonical,
    grid_difference,
    read_volume,
    to_itk,
    to_source,
    write_volume,
)
from renalnet.errors import InputError

FORMATS = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]
TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
UPRIGHT = np.diag([-0.7, -0.8, 2.5, 1.0])


def random_array(dtype: type[np.generic] = np.int16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, SIZE[::-1]).astype(dtype)


def write(path: Path, volume: Volume, *, compress: bool = True) -> Path:
    sitk.WriteImage(to_itk(volume), str(path), useCompression=compress)
    return path


def edit(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new, 1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("ending", FORMATS)
def test_voxels_and_geometry_are_what_simpleitk_reads(tmp_path: Path, ending: str, compress: bool) -> None:
    for grid in (oblique_grid(), oriented_grid((2, 0, 1), (1, -1, -1))):
        path = write(tmp_path / f"a{ending}", Volume(random_array(), grid), compress=compress)
        volume, reference = read_volume(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(reference))
        np.testing.assert_allclose(volume.grid.spacing_xyz_mm, reference.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(volume.grid.origin_xyz_mm, reference.GetOrigin(), rtol=1e-6)
        np.testing.assert_allclose(volume.grid.direction, reference.GetDirection(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ending", FORMATS)
def test_label_on_the_source_grid_is_the_input_in_all_orientations(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    for axes, flips in ORIENTATIONS:
        grid = oriented_grid(axes, flips)
        label = rng.integers(0, 3, grid.shape).astype(np.uint8)
        scan = ScanCase("a", tmp_path / f"image{ending}", tmp_path / f"label{ending}")
        write(scan.image, Volume(random_array(), grid))
        write(scan.label, Volume(label, grid))
        loaded = load_case(scan)
        assert loaded.label.grid.is_axis_aligned
        write_volume(tmp_path / "back.nii.gz", to_source(loaded.label, loaded.source))
        back = sitk.ReadImage(str(tmp_path / "back.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), label)
        np.testing.assert_allclose(back.GetDirection(), grid.direction, atol=1e-6)
        np.testing.assert_allclose(back.GetOrigin(), grid.origin_xyz_mm, rtol=1e-6)


def test_oblique_label_comes_back_within_a_voxel_of_the_surface() -> None:
    from scipy import ndimage

    size = (60, 50, 20)
    grid = Grid(size, (0.8, 0.8, 2.0), ORIGIN, oblique_grid().direction)
    ball = np.linalg.norm((np.indices(grid.shape).T - (9.5, 24.0, 29.0)) * (2.0, 0.8, 0.8), axis=-1).T < 14
    label = ball.astype(np.uint8)
    back = to_source(canonical(Volume(label, grid), is_label=True), grid).array
    inside = ndimage.binary_erosion(label, np.ones((3, 3, 3)))
    outside = ~ndimage.binary_dilation(label, np.ones((3, 3, 3)))
    assert back[inside].all()
    assert not back[outside].any()
    assert 0 < np.count_nonzero(back != label) < 0.15 * label.sum()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_nifti_of_every_type_and_byte_order(tmp_path: Path, dtype: type[np.generic], order: str) -> None:
    array = random_array(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nib.save(nib.Nifti1Image(array.T, UPRIGHT, header), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == dtype
    assert grid_difference(volume.grid, Grid(SIZE, SPACING, (0.0, 0.0, 0.0))) is None


@pytest.mark.parametrize("order", ["little", "big"])
def test_nrrd_of_either_byte_order(tmp_path: Path, order: str) -> None:
    path = write(tmp_path / "a.nrrd", Volume(random_array(), oblique_grid()), compress=False)
    content = path.read_bytes()
    start = content.index(b"\n\n") + 2
    pixels = random_array().astype("<i2" if order == "little" else ">i2").tobytes()
    path.write_bytes(content[:start].replace(b"endian: little", f"endian: {order}".encode()) + pixels)
    np.testing.assert_array_equal(read_volume(path).array, random_array())


def test_metaimage_of_either_byte_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", Volume(random_array(), oblique_grid()), compress=False)
    edit(path, (b"MSB = False", b"MSB = True"), (random_array().tobytes(), random_array().astype(">i2").tobytes()))
    np.testing.assert_array_equal(read_volume(path).array, random_array())


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1024.0), (2.0, 0.0)])
def test_nifti_is_scaled_by_its_slope_and_intercept(tmp_path: Path, slope: float, intercept: float) -> None:
    image = nib.Nifti1Image(random_array().T, UPRIGHT)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array, random_array() * slope + intercept)


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (2, 2), (1, 1)])
def test_nifti_has_the_position_that_nibabel_reports(tmp_path: Path, sform: int, qform: int) -> None:
    grid = oblique_grid()
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3) * SPACING
    affine[:3, 3] = ORIGIN
    affine[:2] *= -1
    image = nib.Nifti1Image(random_array().T, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, tmp_path / "a.nii.gz")
    found = nib.load(tmp_path / "a.nii.gz").affine
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(np.array(volume.grid.origin_xyz_mm) * (-1, -1, 1), found[:3, 3], atol=1e-4)
    steps = np.array(volume.grid.direction).reshape(3, 3) * volume.grid.spacing_xyz_mm
    np.testing.assert_allclose(steps * [[-1], [-1], [1]], found[:3, :3], atol=1e-5)


def test_a_quaternion_in_single_precision_turns_no_axis(tmp_path: Path) -> None:
    """The first axis of KiTS files is z. Two components of their quaternion are the rounded root of 0.5."""
    affine = np.array([[0, 0, -0.7, 0], [0, -0.7, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
    image = nib.Nifti1Image(random_array().T, affine)
    image.set_sform(affine, 0)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    grid = read_volume(tmp_path / "a.nii.gz").grid
    assert np.abs(np.array(grid.direction)).round(7).tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 0]


@pytest.mark.slow
def test_real_kits_labels_have_nibabels_position_and_keep_their_volumes(real_data: Path) -> None:
    paths = sorted((real_data / "kits19_raw").glob("*.nii.gz"))
    assert len(paths) == 4
    for path in paths:
        reference = nib.load(path)
        counts = np.bincount(np.asarray(reference.dataobj).astype(np.uint8).ravel(), minlength=3)
        upright = canonical(read_volume(path), is_label=True)
        assert upright.grid.is_axis_aligned
        assert np.bincount(upright.array.astype(np.uint8).ravel(), minlength=3).tolist() == counts.tolist()
        # The reference is reoriented by nibabel to LPS and transposed to (z, y, x).
        turned = reference.as_reoriented(
            nib.orientations.ornt_transform(
                nib.io_orientation(reference.affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
            )
        )
        np.testing.assert_array_equal(upright.array, np.asarray(turned.dataobj).T)
        np.testing.assert_allclose(upright.grid.origin_xyz_mm, turned.affine[:3, 3] * (-1, -1, 1), atol=1e-3)


def test_nifti_in_metres(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random_array().T, np.diag([-7e-4, -8e-4, 2.5e-3, 1.0]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").grid.spacing_xyz_mm == pytest.approx(SPACING)


def test_one_volume_of_four_dimensions_is_read_and_several_are_refused(tmp_path: Path) -> None:
    one = random_array().T[..., None]
    nib.save(nib.Nifti1Image(one, UPRIGHT), tmp_path / "one.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nii").array, random_array())
    nib.save(nib.Nifti1Image(np.concatenate([one, one], axis=3), UPRIGHT), tmp_path / "two.nii")
    with pytest.raises(InputError, match="size 5×6×7×2; a scan or label map must have three dimensions"):
        read_volume(tmp_path / "two.nii")


def no_orientation(image: nib.Nifti1Image) -> None:
    image.header["sform_code"] = image.header["qform_code"] = 0


def sheared(image: nib.Nifti1Image) -> None:
    image.set_sform(UPRIGHT + np.eye(4, k=1) * 0.1, 1)
    image.set_qform(None, 0)


def flat(image: nib.Nifti1Image) -> None:
    image.header["sform_code"] = 0
    image.header["pixdim"][3] = 0


def moved(image: nib.Nifti1Image) -> None:
    image.set_qform(UPRIGHT @ np.diag([-1, 1, 1, 1]), 1)


def not_finite(image: nib.Nifti1Image) -> None:
    image.header["srow_x"][3] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_orientation, "contains no orientation"),
        (sheared, "its axes are not at right angles"),
        (flat, "voxel spacing 0.7×0.8×0 mm"),
        (moved, "its sform, qform and voxel sizes place the volume up to 5.6 mm apart"),
        (not_finite, "origin nan×.* mm is not within"),
    ],
)
def test_nifti_without_a_valid_position_is_refused(
    tmp_path: Path, change: Callable[[nib.Nifti1Image], None], words: str
) -> None:
    # nibabel recomputes fields from the affine when it writes, so the changed header replaces the written one.
    image = nib.Nifti1Image(random_array().T, UPRIGHT)
    image.set_qform(UPRIGHT, 1)
    nib.save(image, tmp_path / "a.nii")
    image.header["vox_offset"] = 352
    change(image)
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + content[348:])
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path / "a.nii")


def test_colour_is_refused(tmp_path: Path) -> None:
    colour = np.zeros(SIZE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, UPRIGHT), tmp_path / "a.nii")
    with pytest.raises(InputError, match="NIfTI type 128"):
        read_volume(tmp_path / "a.nii")
    picture = sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3)
    for name in ("b.nrrd", "c.mha"):
        sitk.WriteImage(picture, str(tmp_path / name))
        with pytest.raises(InputError, match="3 values per voxel"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("space", "signs"), [("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1)), ("LPS", (1, 1, 1))]
)
def test_nrrd_of_other_spaces_is_turned(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    grid = oblique_grid()
    path = write(tmp_path / "a.nrrd", Volume(random_array(), grid), compress=False)
    edit(path, (b"left-posterior-superior", space.encode()))
    found = read_volume(path).grid
    np.testing.assert_allclose(found.origin_xyz_mm, np.array(ORIGIN) * signs)
    expected = np.array(grid.direction).reshape(3, 3) * np.array(signs)[:, None]
    np.testing.assert_allclose(np.array(found.direction).reshape(3, 3), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("a.nrrd", (b"encoding: raw", b"encoding: txt"), "NRRD encoding 'txt' is not supported"),
        ("a.nrrd", (b"space: left-posterior-superior", b"content: ct"), "contains no orientation"),
        ("a.nrrd", (b"type: short", b"type: block"), "type is block"),
        ("a.nrrd", (b"NRRD000", b"NRRRRRR"), "no header of an NRRD file"),
        ("a.nhdr", (b"data file: a.raw", b"data file: ../a.raw"), "field 'data file' is"),
        ("a.mha", (b"ElementType = MET_SHORT", b"ElementType = MET_OTHER"), "Unknown PixelType"),
        ("a.mha", (b"BinaryData = True", b"BinaryData = False"), "its pixels are text"),
        ("a.mhd", (b"ElementDataFile = a.raw", b"ElementDataFile = LIST"), "field 'ElementDataFile' is 'LIST'"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(
    tmp_path: Path, name: str, change: tuple[bytes, bytes], words: str
) -> None:
    path = write(tmp_path / name, Volume(random_array(), oblique_grid()), compress=False)
    with pytest.raises(InputError, match=words):
        read_volume(edit(path, change))


@pytest.mark.parametrize("cut", [1, 9, 200])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_truncated_files_are_refused(tmp_path: Path, ending: str, compress: bool, cut: int) -> None:
    path = write(tmp_path / f"a{ending}", Volume(random_array(), oblique_grid()), compress=compress)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"bytes of pixels|damaged (gzip|zlib) data|not readable as an image"):
        read_volume(path)


def test_a_sound_file_of_the_same_stem_does_not_stand_in_for_a_broken_one(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", Volume(random_array(), oblique_grid()))
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        read_volume(tmp_path / "a.nii.gz")


def test_gzip_in_several_members_is_read(tmp_path: Path) -> None:
    content = write(tmp_path / "a.nii", Volume(random_array(), oblique_grid())).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").array, random_array())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_no_memory_is_allocated_for_more_than_a_file_contains(tmp_path: Path, ending: str) -> None:
    image = nib.Nifti1Image(random_array().T, UPRIGHT)
    image.header["dim"][1:4] = (1024, 1024, 2000)
    image.header["vox_offset"] = 352
    content = image.header.binaryblock + bytes(4)
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    with pytest.raises(InputError, match=r"bytes of pixels are too few for its size 1024×1024×2000"):
        read_volume(tmp_path / f"a{ending}")


def test_other_formats_are_named_and_detached_headers_not_written(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"picture")
    with pytest.raises(InputError, match=r"its ending must be one of \.nii\.gz, \.nii, \.hdr"):
        read_volume(tmp_path / "scan.png")
    with pytest.raises(InputError, match=r"a\.mhd: not a single-file image format; choose an ending of \.nii\.gz"):
        write_volume(tmp_path / "a.mhd", Volume(random_array(), oblique_grid()))
