"""Damage that SimpleITK does not detect: missing bytes, wrong checksums, and incomplete headers."""

import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from support.grids import SIZE, SPACING, oblique_grid

from renalnet.data.images.integrity import Container, PixelStorage, check_memory, check_pixels, check_size
from renalnet.data.images.stderr import quiet_stderr
from renalnet.data.images.volume import Grid, Volume, read_volume, to_itk, write_volume
from renalnet.errors import InputError

UPRIGHT = np.diag([-0.7, -0.8, 2.5, 1.0])
PIXELS = np.random.default_rng(0).integers(0, 100, SIZE[::-1]).astype(np.int16)
VOLUME = Volume(PIXELS, oblique_grid())


def write(path: Path, *changes: tuple[bytes, bytes], compress: bool = False) -> Path:
    """Write an undamaged image with parts of its header replaced."""
    sitk.WriteImage(to_itk(VOLUME), str(path), useCompression=compress)
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new, 1)
    path.write_bytes(content)
    return path


def write_nifti(path: Path, array: NDArray[Any] = PIXELS, **fields: float | tuple[float, ...]) -> Path:
    """Write an undamaged image with sform and qform, then replace fields of its header.

    nibabel would recompute the fields if they were set before it writes.
    """
    image = nib.Nifti1Image(array.T, UPRIGHT)
    image.set_qform(UPRIGHT, 1)
    nib.save(image, path)
    image.header["vox_offset"] = 352
    for name, value in fields.items():
        image.header[name] = value
    path.write_bytes(image.header.binaryblock + path.read_bytes()[348:])
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "held"), [((2, 3, 4), 48), ((2, 3, 4), 47)])
@pytest.mark.parametrize(("start", "skip"), [(0, 0), (5, 0), (0, 7), (5, 7)])
def test_raw_bytes_are_counted_from_the_first_pixel(
    tmp_path: Path, size: tuple[int, ...], held: int, start: int, skip: int
) -> None:
    (tmp_path / "a").write_bytes(bytes(start + skip + held))
    stored = PixelStorage(tmp_path / "a", "raw", start, skip)
    if held == 48:
        check_pixels("a.nii", stored, size, 2)
    else:
        with pytest.raises(InputError, match=r"a\.nii: 47 bytes of pixels are too few for its size 2×3×4"):
            check_pixels("a.nii", stored, size, 2)


@pytest.mark.parametrize("container", ["gzip", "zlib"])
def test_compressed_bytes_are_counted_to_their_end(tmp_path: Path, container: Container) -> None:
    stream = zlib.compressobj(wbits={"gzip": 31, "zlib": 15}[container])
    (tmp_path / "a").write_bytes(b"header" + stream.compress(bytes(1_000_000)) + stream.flush())
    stored = PixelStorage(tmp_path / "a", container, start=6)
    check_pixels("a", stored, (100, 100, 100), 1)
    with pytest.raises(InputError, match="1000000 bytes of pixels are too few"):
        check_pixels("a", stored, (100, 100, 101), 1)


@pytest.mark.parametrize("container", ["gzip", "zlib"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, container: Container) -> None:
    stream = zlib.compressobj(wbits={"gzip": 31, "zlib": 15}[container])
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(64)) + stream.flush()[:-4]
    (tmp_path / "a").write_bytes(bomb)
    with pytest.raises(InputError, match="continue after the pixels"):  # reported before the missing end
        check_pixels("a", PixelStorage(tmp_path / "a", container), (2, 3, 4), 2)


@pytest.mark.parametrize("size", [(0, 5, 5), (-1, -5, 5), (2**11, 2**11, 2**9 + 1)])
def test_sizes_that_no_scan_has(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="is not the size of a scan"):
        check_size("a", size)


def test_the_largest_size_is_allowed() -> None:
    check_size("a", (2**11, 2**11, 2**9))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".nhdr", ".mhd"])
def test_an_image_that_does_not_fit_into_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = write(tmp_path / f"a{ending}", compress=False)
    monkeypatch.setattr("renalnet.data.images.integrity.memory_bytes", lambda: 100)
    refused(path, r"needs about 0\.0 GiB of memory, more than the 0\.0 GiB of this process; crop or resample")


def test_the_memory_is_that_of_the_stored_voxels_a_copy_and_the_ct_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """1000³ voxels of 2 bytes: 2 + 2 + 2 bytes each are 6e9 bytes, or 5.59 GiB."""
    monkeypatch.setattr("renalnet.data.images.integrity.memory_bytes", lambda: 6 * 10**9)
    check_memory("a", (1000, 1000, 1000), 2)
    monkeypatch.setattr("renalnet.data.images.integrity.memory_bytes", lambda: 5 * 10**9)
    with pytest.raises(InputError, match=r"^a: size 1000×1000×1000 needs about 5\.6 GiB .* more than the 4\.7 GiB"):
        check_memory("a", (1000, 1000, 1000), 2)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".nhdr", ".mhd"])
def test_any_flipped_bit_of_compressed_pixels_is_found(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", compress=True)
    data = next((file for file in tmp_path.iterdir() if "raw" in file.name), path)
    content = data.read_bytes()
    for place in range(len(content) - 200, len(content), 9):
        data.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        refused(path, r"damaged (gzip|zlib) data|bytes of pixels are too few|not readable as an image")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
@pytest.mark.parametrize("compress", [True, False])
def test_a_cut_data_file_is_found(tmp_path: Path, ending: str, compress: bool) -> None:
    path = write(tmp_path / f"a{ending}", compress=compress)
    (data,) = [file for file in tmp_path.iterdir() if file != path]
    data.write_bytes(data.read_bytes()[:-1])
    refused(path, "bytes of pixels are too few|damaged gzip data|field 'CompressedDataSize'")


def test_each_of_two_niftis_of_one_stem_gives_its_own_voxels(tmp_path: Path) -> None:
    for factor, name in ((1, "a.nii"), (2, "a.nii.gz")):
        write_volume(tmp_path / name, Volume(PIXELS * np.int16(factor), VOLUME.grid))
    for factor, name in ((1, "a.nii"), (2, "a.nii.gz")):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, PIXELS * factor)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_endings_in_capitals_and_a_single_slice(tmp_path: Path, name: str) -> None:
    slice_alone = Volume(PIXELS[:1], Grid((5, 6, 1), SPACING, (1.0, 2.0, 3.0)))
    write_volume(tmp_path / name, slice_alone)
    found = read_volume((tmp_path / name).rename(tmp_path / name.upper()))
    np.testing.assert_array_equal(found.array, PIXELS[:1])
    assert found.grid.size_xyz == (5, 6, 1)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_not_read_as_0(tmp_path: Path, name: str, dtype: str, value: float) -> None:
    array = np.zeros((4, 200, 200), np.float64)
    header = nib.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    nib.save(nib.Nifti1Image(array.T, UPRIGHT, header), tmp_path / name)
    assert not read_volume(tmp_path / name).array.any()
    array[-1, -1, -1] = value
    nib.save(nib.Nifti1Image(array.T, UPRIGHT, header), tmp_path / name)
    refused(tmp_path / name, "holds values that are not finite")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"vox_offset": 0}, "voxels start at byte 0"),
        ({"vox_offset": 1e9}, r"voxels start at byte 1e\+09"),
        ({"bitpix": 8}, "8 bits per voxel of type 4"),
        ({"scl_slope": 0, "scl_inter": -1024}, "slope 0 and intercept -1024 must be finite, and the slope not 0"),
        ({"scl_slope": np.nan, "scl_inter": 5}, "slope nan and intercept 5 must be finite"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "slope 1 and intercept inf must be finite"),
        ({"xyzt_units": 7}, "unit of length 7 must be m, mm or µm"),
        ({"pixdim": (1, 0.7, -0.8, 2.5, 0, 0, 0, 0)}, "voxel spacing 0.7×-0.8×2.5 mm"),
        ({"pixdim": (1, 0.7, 0.8, 2, 0, 0, 0, 0)}, "place the volume up to 3 mm apart"),
        ({"pixdim": (1, 0.7, 0.8, 2, 0, 0, 0, 0), "qform_code": 0}, "place the volume up to 3 mm apart"),
        ({"quatern_b": np.nan}, "voxel spacing nan"),
        ({"quatern_b": 0.1}, "voxel spacing nan"),
        ({"dim": (3, -5, 6, 7, 1, 1, 1, 1)}, "not readable as an image|is not the size of a scan"),
        ({"magic": b"ni1"}, "no header of a NIfTI file"),
    ],
)
def test_invalid_nifti_headers_are_refused(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    refused(write_nifti(tmp_path / "a.nii", **fields), words)


@pytest.mark.parametrize(("unit", "mm"), [(1, 1e3), (2, 1.0), (3, 1e-3)])
@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (1, 1)])
def test_origin_and_spacing_in_any_unit(tmp_path: Path, unit: int, mm: float, sform: int, qform: int) -> None:
    affine = UPRIGHT / mm
    affine[:3, 3] = np.array((-1, 2, 3)) / mm
    image = nib.Nifti1Image(PIXELS.T, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    image.header["xyzt_units"] = unit
    nib.save(image, tmp_path / "a.nii")
    grid = read_volume(tmp_path / "a.nii").grid
    assert grid.spacing_xyz_mm == pytest.approx(SPACING)
    assert grid.origin_xyz_mm == pytest.approx((1.0, -2.0, 3.0))


def test_messages_of_simpleitk_are_reported_without_memory_addresses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", (b"kinds: domain domain domain", b"kinds: domain domain list"))
    refused(path, r"a\.nrrd: not readable as an image \(ReadImageInformation: number of domain axes [^/]*; export it")


ENCODING = b"encoding: raw"
TYPE = b"ElementType"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b"kinds:", b'space units: "m" "m" "m"\nkinds:'), "unit of length m must be mm"),
        ((b"left-posterior-superior", b"scanner-xyz"), "contains no orientation"),
        ((b"space origin: (-31.5,", b"space origin: (-31.5x,"), "field 'space origin'"),
        ((b"space origin", b"content"), "contains no orientation"),
        ((ENCODING, ENCODING + b"\nline skip: 1"), "field 'line skip' is '1'"),
        ((ENCODING, ENCODING + b"\nbyte skip: -2"), "field 'byte skip' is '-2'"),
        ((ENCODING, ENCODING + b"\nbyte skip: 1"), "419 bytes of pixels are too few"),
        ((ENCODING, ENCODING + b"\nbyteskip: x"), "field 'byte skip' is 'x'"),
        ((b"sizes: 5 6 7", b"sizes: 5 6 8"), "420 bytes of pixels are too few for its size 5×6×8"),
    ],
)
def test_incomplete_nrrd_headers_are_refused(tmp_path: Path, change: tuple[bytes, bytes], words: str) -> None:
    refused(write(tmp_path / "a.nrrd", change), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((TYPE, b"ElementToIntensityFunctionSlope = 2\n" + TYPE), "its values need rescaling"),
        ((TYPE, b"HeaderSize = 2\n" + TYPE), "field 'HeaderSize' is '2'"),
        ((TYPE, b"NDims = 3\n" + TYPE), "field 'NDims' appears twice"),
        ((b"ElementSpacing", b"Spacing"), "field 'ElementSpacing' is missing"),
        ((b"ElementSpacing = 0.7", b"ElementSpacing = -0.7"), r"voxel spacing -0.7×0.8×2.5 mm"),
        ((b"Offset = -31.5", b"Offset = x"), "field 'Offset' is 'x"),
        ((b"Offset = -31.5", b"Offset ="), "field 'Offset' is"),
        ((b"Offset = -31.5", b"Offset = nan"), "field 'Offset' is"),
        ((b"MSB = False", b"MSB = Maybe"), "field 'BinaryDataByteOrderMSB' is 'Maybe'"),
        ((b"DimSize = 5 6 7", b"DimSize = 5 6 8"), "420 bytes of pixels are too few for its size 5×6×8"),
    ],
)
def test_incomplete_metaimage_headers_are_refused(tmp_path: Path, change: tuple[bytes, bytes], words: str) -> None:
    path = write(tmp_path / "a.mha", (b"ElementSpacing = 0.69999999999999996", b"ElementSpacing = 0.7"))
    content = path.read_bytes()
    assert change[0] in content
    path.write_bytes(content.replace(*change, 1))
    refused(path, words)


def test_the_stated_size_of_compressed_data_must_be_right(tmp_path: Path) -> None:
    # SimpleITK inflates as many bytes as the field states, and returns uninitialised memory if that fails.
    refused(write(tmp_path / "a.mha", (b"CompressedDataSize", b"Comment"), compress=True), "CompressedDataSize")
    refused(write(tmp_path / "b.mha", (b"DataSize = ", b"DataSize = 1"), compress=True), "CompressedDataSize")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("a.nrrd", ENCODING, ENCODING + b"\nbyte skip: -1"), ("a.mha", TYPE, b"HeaderSize = -1\n" + TYPE)],
)
def test_pixels_may_be_the_last_bytes_of_their_file(tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    path = write(tmp_path / name, (old, new))
    np.testing.assert_array_equal(read_volume(path).array, PIXELS)


def test_pixels_may_follow_a_header_of_another_format(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd", (TYPE, b"HeaderSize = 6\n" + TYPE))
    (tmp_path / "a.raw").write_bytes(b"header" + PIXELS.astype("<i2").tobytes())
    np.testing.assert_array_equal(read_volume(path).array, PIXELS)


def test_one_volume_of_four_axes(tmp_path: Path) -> None:
    image = sitk.JoinSeries([to_itk(VOLUME)])
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    found = read_volume(tmp_path / "a.mha")
    np.testing.assert_array_equal(found.array, PIXELS)
    np.testing.assert_allclose(found.grid.direction, VOLUME.grid.direction, atol=1e-12)
    sitk.WriteImage(sitk.JoinSeries([to_itk(VOLUME)] * 2), str(tmp_path / "b.mha"))
    refused(tmp_path / "b.mha", "size 5×6×7×2; a scan or label map must have three dimensions")


def test_stderr_is_discarded_inside_and_restored_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), quiet_stderr():
        os.write(2, b"from a library\n")
        raise ValueError("inside")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
