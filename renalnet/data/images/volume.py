"""Images with their geometry: reading, writing, reorientation to canonical axes, resampling, and the way back.

Canonical geometry is LPS with identity direction, so that z grows towards the head. SimpleITK does the work and is
imported only inside the functions that use it, because most users of volumes do not need it.
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
from renalnet.data.images.stderr import quiet_stderr
from renalnet.errors import InputError
from renalnet.runtime import storage
from renalnet.runtime.storage import reading
from renalnet.types import Shape, Triple

__all__ = [
    "DETACHED_HEADERS",
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
"""Endings of the files that `read_volume` reads."""
DETACHED_HEADERS: Final = (".hdr", ".hdr.gz", ".mhd", ".nhdr")
"""Endings of the headers whose voxels are in another file, of the same name as a rule."""
_SEGMENTATION: Final = ".seg"
_PAIR_DATA: Final = (".img", ".img.gz")


def image_stem(name: str) -> str | None:
    """Return the name of an image file without its ending, or None for other files and for hidden files.

    The `.seg` that 3D Slicer puts before the ending of a segmentation belongs to the ending.
    """
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), None)
    if ending is None or name.startswith("."):
        return None
    stem = name[: -len(ending)]
    return stem[: -len(_SEGMENTATION)] if stem.lower().endswith(_SEGMENTATION) else stem


def read_volume(path: str | Path) -> Volume:
    """Read a 3D image (NIfTI, NRRD or MetaImage, by its ending) on the grid of its file.

    Raises:
        InputError: the file is missing, unreadable, damaged, or not a single-channel 3D image.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file; name an existing image")
    reader = next((reader for ending, reader in READERS.items() if file.name.lower().endswith(ending)), None)
    if reader is None and file.name.lower().endswith(_PAIR_DATA):
        raise InputError(f"{path}: the voxels of a pair of files; name the header, which ends in .hdr")
    if reader is None:
        raise InputError(f"{path}: not readable as an image; its ending must be one of {', '.join(IMAGE_ENDINGS)}")
    with reading(path):
        return reader(file)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write an image under a temporary name, check the file, and rename it.

    A reader therefore never sees an incomplete file.

    Args:
        path: local path or URI. Its ending selects the format.
        volume: the image.

    Raises:
        InputError: the ending is not that of a single-file format, or the format cannot store the image.
        OSError: the file cannot be created, or the disk or a quota is full. `path` is unchanged.
    """
    target = Path(storage.resolve(path)[1])
    if not target.name.lower().endswith(WRITTEN_ENDINGS):
        raise InputError(f"{path}: not a single-file image format; choose an ending of {', '.join(WRITTEN_ENDINGS)}")
    if storage.is_remote(path):
        # SimpleITK writes local files only.
        with TemporaryDirectory(prefix="renalnet-") as folder:
            local = Path(folder) / target.name
            _write_checked(local, volume, target)
            storage.write_bytes(path, local.read_bytes())
    else:
        _write_local(target, volume)


def _write_local(target: Path, volume: Volume) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The temporary name keeps the ending, by which SimpleITK selects the format. Its random part keeps apart two
    # processes that write the same file.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")
    try:
        _write_checked(temporary, volume, target)
        temporary.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_checked(file: Path, volume: Volume, target: Path) -> None:
    import SimpleITK as sitk

    try:
        with quiet_stderr():
            sitk.WriteImage(to_itk(volume), str(file), useCompression=True)
        check_written(file, volume)
    except (RuntimeError, InputError) as error:
        _raise_if_disk_is_full(file, volume.array.nbytes)
        raise InputError(f"{target}: its format cannot store this image; choose another ending") from error


def _raise_if_disk_is_full(file: Path, num_bytes: int) -> None:
    """Append `num_bytes` to a file that was not written completely, so that the system reports the reason.

    SimpleITK does not report why it failed. The file is deleted afterwards.

    Raises:
        OSError: the disk, a quota or the file is full.
    """
    with file.open("ab") as stream:
        stream.write(bytes(num_bytes))
        stream.flush()
        os.fsync(stream.fileno())


def canonical(volume: Volume, *, is_label: bool) -> Volume:
    """Return the image in canonical geometry: LPS with identity direction, z towards the head.

    Permutations and flips of axes move voxels without changing their values. An oblique image is resampled to an
    axis-aligned grid of its own spacing that covers all of it: labels by nearest neighbour, intensities linearly.
    """
    import SimpleITK as sitk

    if volume.grid.is_axis_aligned:
        return volume
    turned = _from_itk(sitk.DICOMOrient(to_itk(volume), "LPS"))
    if turned.grid.is_axis_aligned:
        return turned
    # Outside the field of view an image gets its lowest value, which is air in a CT.
    fill = 0.0 if is_label else float(volume.array.min())
    return resample(turned, _enclosing_grid(turned.grid), is_label=is_label, fill=fill)


def resample(volume: Volume, grid: Grid, *, is_label: bool, fill: float = 0.0) -> Volume:
    """Return the image on another grid, with `fill` outside its extent.

    Labels are resampled by nearest neighbour and intensities linearly.
    """
    import SimpleITK as sitk

    # Only its geometry is used, so it has the smallest type of voxel.
    reference = sitk.Image(list(grid.size_xyz), sitk.sitkUInt8)
    _set_geometry(reference, grid)
    interpolator = sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear
    moved = sitk.Resample(to_itk(volume), reference, sitk.Transform(3, sitk.sitkIdentity), interpolator, fill)
    return Volume(sitk.GetArrayFromImage(moved), grid)


def to_source(label: Volume, source: Grid) -> Volume:
    """Return a canonical label map on the grid of its scan, with background outside the label map's extent.

    The result is exact if the label map's voxels are voxels of the scan, for any order and direction of the scan's
    axes. Otherwise (oblique scans, ROIs of another spacing) each voxel of the scan takes the nearest label.
    """
    return resample(label, source, is_label=True)


def use_threads(num_threads: int) -> None:
    """Set the number of threads that SimpleITK uses in this process."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(num_threads)


def _enclosing_grid(grid: Grid) -> Grid:
    direction = np.array(grid.direction).reshape(3, 3)
    extent = (np.array(grid.size_xyz) - 1) * np.array(grid.spacing_xyz_mm)
    corners = np.array(np.meshgrid(*([0.0, length] for length in extent), indexing="ij")).reshape(3, -1)
    placed = direction @ corners + np.array(grid.origin_xyz_mm)[:, None]
    low = placed.min(axis=1)
    high = placed.max(axis=1)
    # The small term keeps rounding from adding a voxel where the extent is a multiple of the spacing.
    size = np.ceil((high - low) / np.array(grid.spacing_xyz_mm) - 1e-6).astype(int) + 1
    return Grid(_triple_int(size), grid.spacing_xyz_mm, _triple(low))


def _from_itk(image: Any) -> Volume:
    import SimpleITK as sitk

    grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(sitk.GetArrayFromImage(image), grid)


def to_itk(volume: Volume) -> Any:
    """Return the volume as a SimpleITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.array)
    _set_geometry(image, volume.grid)
    return image


def _set_geometry(image: Any, grid: Grid) -> None:
    image.SetSpacing(grid.spacing_xyz_mm)
    image.SetOrigin(grid.origin_xyz_mm)
    image.SetDirection(grid.direction)


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _triple_int(values: NDArray[np.int_]) -> Shape:
    return int(values[0]), int(values[1]), int(values[2])
