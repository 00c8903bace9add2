"""Readers of image files, and the check of written ones. SimpleITK reads sound files of NRRD and MetaImage.

The ending of a file's name selects its reader; the content is never used to guess the format. Files that SimpleITK
wrote are checked too: if the disk is full, its NIfTI and MetaImage writers leave an incomplete file and report success.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import Grid, Volume, grid_of_axes
from renalnet.data.images.integrity import (
    PixelStorage,
    check_memory,
    check_pixels,
    check_size,
    format_size,
    read_pixels,
)
from renalnet.data.images.nifti_header import read_nifti_header
from renalnet.data.images.stderr import quiet_stderr
from renalnet.data.images.text_header import metaimage_pixels, nrrd_pixels
from renalnet.errors import InputError


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI image, version 1 or 2, in one file or in two. Values are scaled by the header's slope and intercept.

    Scaled values are float32 or, for stored types that it cannot hold, float64.

    Raises:
        InputError: as `read_nifti_header`, `NiftiHeader.grid` and `check_memory`; or the file is damaged or truncated,
            has values that are not finite, several values per voxel, or several volumes.
    """
    header = read_nifti_header(path)
    check_size(path, header.size)
    _check_one_volume(path, header.size)
    check_memory(path, header.size, header.dtype.itemsize)
    grid = header.grid()
    stored = read_pixels(path, header.storage, grid.shape, header.dtype)
    if header.scaling is None:
        return Volume(stored, grid)
    return Volume(_scaled(path, stored, *header.scaling), grid)


def _scaled(path: Path, stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    scaled = stored.astype(np.result_type(stored.dtype, np.float32), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged header may have any slope
        scaled *= slope
        scaled += intercept
    if not np.isfinite(scaled).all():
        raise InputError(f"{path}: scaling slope {slope:g} and intercept {intercept:g} leave no numbers; correct them")
    return scaled


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD image.

    Raises:
        InputError: as `nrrd_pixels` and `check_memory`; or the file is damaged or truncated, has several values per
            voxel, or several volumes.
    """
    return _read_checked(path, nrrd_pixels(path), "NrrdImageIO")


def read_nrrd_layers(path: Path) -> Volume:
    """Read an NRRD image that may have several values per voxel, its layers.

    Returns:
        The volume, whose array has a further axis: (z, y, x, layers).

    Raises:
        InputError: as `read_nrrd`, but for several values per voxel.
    """
    volume = _read_checked(path, nrrd_pixels(path), "NrrdImageIO", is_layered=True)
    return Volume(volume.array.reshape(*volume.grid.shape, -1), volume.grid)


def read_metaimage(path: Path) -> Volume:
    """Read a MetaImage.

    Raises:
        InputError: as `metaimage_pixels` and `check_memory`; or the file is damaged or truncated, has several values
            per voxel, or several volumes.
    """
    return _read_checked(path, metaimage_pixels(path), "MetaImageIO")


READERS: Final[dict[str, Callable[[Path], Volume]]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".hdr": read_nifti,
    ".hdr.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
"""Readers by the ending of the file's name."""

# Formats with a detached header are left out: two files cannot be renamed in one step.
_PIXEL_STORAGE: Final[dict[str, Callable[[Path], PixelStorage]]] = {
    ".nii.gz": lambda path: read_nifti_header(path).storage,
    ".nii": lambda path: read_nifti_header(path).storage,
    ".nrrd": nrrd_pixels,
    ".mha": metaimage_pixels,
}
WRITTEN_ENDINGS: Final = tuple(_PIXEL_STORAGE)
"""Endings of the formats that store an image in a single file."""


def check_written(path: Path, volume: Volume) -> None:
    """Check that a file contains all voxels of the volume that was written to it, and sync it to the disk.

    Raises:
        InputError: voxels are missing or damaged.
        OSError: the system could not store the file.
    """
    storage = next(find(path) for ending, find in _PIXEL_STORAGE.items() if path.name.lower().endswith(ending))
    check_pixels(path, storage, volume.grid.size_xyz, volume.array.dtype.itemsize)
    # The rename that follows may reach the disk before the content, and a crash would then leave an incomplete file.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read_checked(path: Path, storage: PixelStorage, image_io: str, *, is_layered: bool = False) -> Volume:
    reader = _opened(path, path, image_io)
    num_components = reader.GetNumberOfComponents()
    if num_components != 1 and not is_layered:
        raise InputError(f"{path}: {num_components} values per voxel; a scan or label map must have one: extract it")
    grid = _grid(path, reader)
    check_size(path, (*grid.size_xyz, num_components))
    voxel_bytes = num_components * _component_bytes(reader)
    check_memory(path, grid.size_xyz, voxel_bytes)
    check_pixels(path, storage, grid.size_xyz, voxel_bytes)
    return _pixels(path, reader, grid)


@contextmanager
def _itk_errors_reported(path: Path) -> Iterator[None]:
    """Turn an error of SimpleITK into an InputError that names the file, and discard its messages on stderr."""
    try:
        with quiet_stderr():
            yield
    except RuntimeError as error:
        raise InputError(f"{path}: not readable as an image ({_reason(error, path)}); export it again") from error


def _reason(error: RuntimeError, path: Path) -> str:
    """Return the last line of SimpleITK's message without memory addresses and folder names.

    An address differs in every run.
    """
    line = str(error).strip().rpartition("\n")[2]
    line = re.sub(r"^\s*(sitk::ERROR:|ITK ERROR:)?\s*(\w+\(0x[0-9a-f]+\):)?\s*", "", line)
    line = re.sub(r"\S*/\S+", path.name, line)
    return "the library gives no reason" if not line or line.startswith("Reason:") else f"{line:.120}"


def _opened(path: Path, name: Path, image_io: str) -> Any:
    """Return a reader that has read the header of the file `name`. Error messages name the file `path`."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    # With a fixed reader, ITK does not guess the format from the content.
    reader.SetImageIO(image_io)
    reader.SetFileName(str(name))
    with _itk_errors_reported(path):
        reader.ReadImageInformation()
        reader.GetPixelID()  # raises an error if SimpleITK has no such pixel type
    return reader


def _grid(path: Path, reader: Any) -> Grid:
    """Return the grid of the header. Axes beyond the third must have length 1."""
    size = reader.GetSize()
    num_axes = reader.GetDimension()
    _check_one_volume(path, size)
    check_size(path, size[:3])
    spacing = np.array(reader.GetSpacing())[:3]
    if not (spacing > 0).all():
        listed = "×".join(f"{value:g}" for value in spacing)
        raise InputError(f"{path}: voxel spacing {listed} mm must be positive; correct the header")
    # The first three axes are spatial; further ones, such as time, have length 1 here.
    direction = np.array(reader.GetDirection()).reshape(num_axes, num_axes)[:3, :3]
    origin = np.array(reader.GetOrigin())[:3]
    return grid_of_axes(path, size, direction * spacing, origin.tolist())


def _check_one_volume(path: Path, size: Sequence[int]) -> None:
    if len(size) < 3 or any(length != 1 for length in size[3:]):
        raise InputError(
            f"{path}: size {format_size(size)}; a scan or label map must have three dimensions: extract one volume"
        )


def _component_bytes(reader: Any) -> int:
    import SimpleITK as sitk

    return int(sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent())


def _pixels(path: Path, reader: Any, grid: Grid) -> Volume:
    import SimpleITK as sitk

    with _itk_errors_reported(path):
        array = sitk.GetArrayFromImage(reader.Execute())
    return Volume(array.reshape(*grid.shape, *array.shape[reader.GetDimension() :]), grid)
