"""Images and their place in space: reading, writing, turning to the inner axes, resampling, the way back.

SimpleITK reads, turns, resamples and writes; it is imported where it is used.
"""

import os
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import GRID_TOLERANCE_MM, IDENTITY, OBLIQUE_TOLERANCE, Grid, Volume, grid_difference
from renalnet.data.images.image_file import READERS, WRITTEN_ENDINGS, check_written
from renalnet.data.images.quiet import quiet_stderr
from renalnet.errors import InputError
from renalnet.runtime import storage
from renalnet.runtime.storage import reading
from renalnet.types import Shape, Triple

__all__ = [
    "GRID_TOLERANCE_MM",
    "IDENTITY",
    "IMAGE_ENDINGS",
    "OBLIQUE_TOLERANCE",
    "Grid",
    "Volume",
    "canonical",
    "grid_difference",
    "image_stem",
    "read_volume",
    "resample",
    "to_itk",
    "to_source",
    "use_threads",
    "write_volume",
]

IMAGE_ENDINGS: Final = tuple(READERS)
"""Of the files that `read_volume` reads."""


def image_stem(name: str) -> str | None:
    """The name of an image file without its ending; none for another file and for a hidden one."""
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), None)
    return None if ending is None or name.startswith(".") else name[: -len(ending)]


def read_volume(path: str | Path) -> Volume:
    """Read a 3D image (NIfTI, NRRD or MetaImage, by its ending), on the grid that its file states.

    Raises:
        InputError: the file is missing, unreadable, damaged, or not a single-channel 3D image.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file; name an existing image")
    reader = next((reader for ending, reader in READERS.items() if file.name.lower().endswith(ending)), None)
    if reader is None:
        raise InputError(f"{path}: not readable as an image (its ending is none of {', '.join(IMAGE_ENDINGS)})")
    with reading(path):
        return reader(file)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write an image under a temporary name, check that all of it is there, and rename it.

    The ending of `path`, a local path or a URI, chooses the format.

    Raises:
        InputError: the ending is of no format that keeps an image in one file, so that it could not be written whole
            or not at all; or the format cannot hold the image.
        OSError: the file cannot be made, or the disk or a quota is full; `path` is as it was before.
    """
    target = Path(storage.resolve(path)[1])
    if not target.name.lower().endswith(WRITTEN_ENDINGS):
        raise InputError(f"{path}: is no image in one file; choose an ending of {', '.join(WRITTEN_ENDINGS)}")
    if storage.is_remote(path):
        with TemporaryDirectory(prefix="renalnet-") as folder:  # SimpleITK writes local files only
            local = Path(folder) / target.name
            _write_whole(local, volume, target)
            storage.write_bytes(path, local.read_bytes())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")  # keeps the ending, which SimpleITK reads
    try:
        _write_whole(temporary, volume, target)
        temporary.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_whole(file: Path, volume: Volume, target: Path) -> None:
    import SimpleITK as sitk

    try:
        with quiet_stderr():
            sitk.WriteImage(to_itk(volume), str(file), useCompression=True)
        check_written(file, volume)
    except (RuntimeError, InputError) as error:
        _append(file, volume.array.nbytes)
        raise InputError(f"{target}: its format cannot hold this image; choose another ending") from error


def _append(file: Path, num_bytes: int) -> None:
    """Ask the system why a file of at most so many bytes was not written: the library does not tell."""
    with file.open("ab") as stream:
        stream.write(bytes(num_bytes))
        stream.flush()
        os.fsync(stream.fileno())


def canonical(volume: Volume, *, is_label: bool) -> Volume:
    """The image in LPS with identity direction, z towards the head.

    Permutations and flips of axes move voxels and change none; an oblique image is resampled onto the
    axis-aligned grid of its own spacing that holds all of it.
    """
    import SimpleITK as sitk

    if volume.grid.is_axis_aligned:
        return volume
    turned = _from_itk(sitk.DICOMOrient(to_itk(volume), "LPS"))
    if turned.grid.is_axis_aligned:
        return turned
    fill = 0.0 if is_label else float(volume.array.min())
    return resample(turned, _enclosing_grid(turned.grid), is_label=is_label, fill=fill)


def resample(volume: Volume, grid: Grid, *, is_label: bool, fill: float = 0.0) -> Volume:
    """The image on another grid: labels by nearest neighbour, intensities linearly, `fill` outside."""
    import SimpleITK as sitk

    reference = sitk.Image(list(grid.size_xyz), sitk.sitkUInt8)
    _place(reference, grid)
    interpolator = sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear
    moved = sitk.Resample(to_itk(volume), reference, sitk.Transform(3, sitk.sitkIdentity), interpolator, fill)
    return Volume(sitk.GetArrayFromImage(moved), grid)


def to_source(label: Volume, source: Grid) -> Volume:
    """A label of the inner geometry on the grid of the scan that it belongs to; background outside its extent.

    Voxel for voxel where the label's voxels are voxels of the source, whatever the order and direction of its
    axes; elsewhere (oblique scans, ROIs of another spacing) each voxel of the source takes the nearest label.
    """
    return resample(label, source, is_label=True)


def use_threads(num_threads: int) -> None:
    """Let SimpleITK use this many threads in this process."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(num_threads)


def _enclosing_grid(grid: Grid) -> Grid:
    direction = np.array(grid.direction).reshape(3, 3)
    extent = (np.array(grid.size_xyz) - 1) * np.array(grid.spacing_xyz_mm)
    corners = np.array(np.meshgrid(*([0.0, length] for length in extent), indexing="ij")).reshape(3, -1)
    placed = direction @ corners + np.array(grid.origin_xyz_mm)[:, None]
    low, high = placed.min(axis=1), placed.max(axis=1)
    size = np.ceil((high - low) / np.array(grid.spacing_xyz_mm) - 1e-6).astype(int) + 1
    return Grid(_triple_int(size), grid.spacing_xyz_mm, _triple(low))


def _from_itk(image: Any) -> Volume:
    import SimpleITK as sitk

    grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(sitk.GetArrayFromImage(image), grid)


def to_itk(volume: Volume) -> Any:
    """The volume as a SimpleITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.array)
    _place(image, volume.grid)
    return image


def _place(image: Any, grid: Grid) -> None:
    image.SetSpacing(grid.spacing_xyz_mm)
    image.SetOrigin(grid.origin_xyz_mm)
    image.SetDirection(grid.direction)


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _triple_int(values: NDArray[np.int_]) -> Shape:
    return int(values[0]), int(values[1]), int(values[2])
