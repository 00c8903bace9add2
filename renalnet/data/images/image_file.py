"""Image files to volumes: SimpleITK reads geometry and pixels, once the file has been found sound.

Which of its readers is taken follows from the file's ending; nothing is guessed from contents. What SimpleITK wrote is
looked through as well: on a full disk its NIfTI and MetaImage writers leave a part of the file and report success.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from renalnet.data.images.grid import Grid, Volume, grid_of_axes
from renalnet.data.images.integrity import Stored, check_pixels, check_size, size_words
from renalnet.data.images.nifti_header import read_nifti_header
from renalnet.data.images.quiet import quiet_stderr
from renalnet.data.images.text_header import metaimage_pixels, nrrd_pixels
from renalnet.errors import InputError


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI-1 image; values are scaled by its slope and intercept where it has them.

    Raises:
        InputError: as `read_nifti_header`; the header contradicts itself on where the volume lies; or the file is
            damaged, cut off, not finite, or has more than one value a voxel or volume.
    """
    header = read_nifti_header(path)
    check_size(path, header.size)
    check_pixels(path, header.stored, header.size, header.dtype.itemsize)
    with TemporaryDirectory() as folder:
        # Under a name of its own: of a.nii.gz beside a.nii the library returns the pixels of a.nii.
        alias = Path(folder, "image.nii.gz" if header.stored.container == "gzip" else "image.nii")
        alias.symlink_to(path.absolute())
        reader = _opened(path, alias, "NiftiImageIO")
        grid = _grid(path, reader)
        header.check_place(grid)
        return _pixels(path, reader, grid)


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD image.

    Raises:
        InputError: as `nrrd_pixels`; or the file is damaged, cut off, or has more than one value a voxel or volume.
    """
    return _read_stored(path, nrrd_pixels(path), "NrrdImageIO")


def read_metaimage(path: Path) -> Volume:
    """Read a MetaImage.

    Raises:
        InputError: as `metaimage_pixels`; or the file is damaged, cut off, or has more than one value a voxel or
            volume.
    """
    return _read_stored(path, metaimage_pixels(path), "MetaImageIO")


READERS: Final[dict[str, Callable[[Path], Volume]]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
"""By the ending of the file's name."""


_PIXELS_OF: Final[dict[str, Callable[[Path], Stored]]] = {
    ".nii.gz": lambda path: read_nifti_header(path).stored,
    ".nii": lambda path: read_nifti_header(path).stored,
    ".nrrd": nrrd_pixels,
    ".mha": metaimage_pixels,
}
WRITTEN_ENDINGS: Final = tuple(_PIXELS_OF)
"""Of the formats that keep an image in one file."""


def check_written(path: Path, volume: Volume) -> None:
    """Compare a file with the volume that was written to it, voxels that are not finite included, and sync it.

    Raises:
        InputError: it does not hold all voxels undamaged.
        OSError: the system could not keep what was written.
    """
    stored = next(find(path) for ending, find in _PIXELS_OF.items() if path.name.lower().endswith(ending))
    check_pixels(path, replace(stored, hides=None), volume.grid.size_xyz, volume.array.dtype.itemsize)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read_stored(path: Path, stored: Stored, image_io: str) -> Volume:
    reader = _opened(path, path, image_io)
    grid = _grid(path, reader)
    check_pixels(path, stored, grid.size_xyz, _voxel_bytes(reader))
    return _pixels(path, reader, grid)


@contextmanager
def _library(path: Path) -> Iterator[None]:
    """Calls of SimpleITK: silent, and what it raises as an InputError that names the file."""
    try:
        with quiet_stderr():
            yield
    except RuntimeError as error:
        raise InputError(f"{path}: not readable as an image ({_reason(error, path)}); export it again") from error


def _reason(error: RuntimeError, path: Path) -> str:
    """The last line of what the library says, without its addresses and names of files."""
    line = str(error).strip().rpartition("\n")[2]
    line = re.sub(r"^\s*(sitk::ERROR:|ITK ERROR:)?\s*(\w+\(0x[0-9a-f]+\):)?\s*", "", line)
    line = re.sub(r"\S*/\S+", path.name, line)
    return "the library does not say why" if not line or line.startswith("Reason:") else f"{line:.120}"


def _opened(path: Path, name: Path, image_io: str) -> Any:
    """A reader that has read the header of the file `name`, which messages call `path`."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(name))
    with _library(path):
        reader.ReadImageInformation()
        num_components = reader.GetNumberOfComponents()
        reader.GetPixelID()  # raises where there is no such type
    if num_components != 1:
        raise InputError(f"{path}: {num_components} values a voxel; a scan or label has one: extract it")
    return reader


def _grid(path: Path, reader: Any) -> Grid:
    """The grid of the header, of whose axes beyond the third each must be of one voxel."""
    size, num_axes = reader.GetSize(), reader.GetDimension()
    if num_axes < 3 or any(length != 1 for length in size[3:]):
        raise InputError(
            f"{path}: size {size_words(size)}; a scan or label has three dimensions: extract one volume of it"
        )
    check_size(path, size[:3])
    spacing = np.array(reader.GetSpacing())[:3]
    if not (spacing > 0).all():
        raise InputError(f"{path}: voxel spacing {spacing[0]:g}×{spacing[1]:g}×{spacing[2]:g} mm; correct the header")
    direction = np.array(reader.GetDirection()).reshape(num_axes, num_axes)[:3, :3]
    origin = np.array(reader.GetOrigin())[:3]
    return grid_of_axes(path, size, direction * spacing, origin.tolist())


def _voxel_bytes(reader: Any) -> int:
    import SimpleITK as sitk

    return int(sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent())


def _pixels(path: Path, reader: Any, grid: Grid) -> Volume:
    import SimpleITK as sitk

    with _library(path):
        array = sitk.GetArrayFromImage(reader.Execute())
    return Volume(array.reshape(grid.shape), grid)
