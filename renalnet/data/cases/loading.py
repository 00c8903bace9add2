"""Scans and labels on disk to cases in the inner geometry. Nothing is resized; of headers, only geometry."""

from dataclasses import dataclass
from pathlib import Path

from renalnet.data.cases.layouts import Found, ScanCase, find_layout
from renalnet.data.dicom.file import is_dicom
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.dicom.series import read_series
from renalnet.data.images.hounsfield import AIR_HU, to_hounsfield
from renalnet.data.images.label_values import parse_label_map, to_classes
from renalnet.data.images.volume import Grid, Volume, canonical, grid_difference, image_stem, read_volume
from renalnet.errors import InputError
from renalnet.runtime.storage import reading

__all__ = [
    "AIR_HU",
    "Found",
    "LoadedCase",
    "ScanCase",
    "find_layout",
    "is_series",
    "load_case",
    "load_image",
    "parse_label_map",
]


@dataclass(frozen=True)
class LoadedCase:
    """A patient in the inner geometry."""

    case: str
    image: Volume
    """int16 HU, canonical."""
    label: Volume
    """uint8, canonical, on the image's grid."""
    source: Grid
    """The grid that the image's file states."""


def load_case(scan: ScanCase) -> LoadedCase:
    """Read, check and turn a case; HU are rounded and clamped to [-1024, 32767].

    Raises:
        InputError: a file is unreadable, image and label lie on different grids, the image is not finite, or
            the label holds other values than 0, 1 and 2 that the case's label map does not name.
    """
    with reading(scan.image):
        image = _read_scan(scan.image, scan.series)
    with reading(scan.label):
        label = _read_label(scan, image.grid)
    return LoadedCase(scan.case, canonical(image, is_label=False), canonical(label, is_label=True), image.grid)


def load_image(path: str | Path, *, series: str | None = None) -> tuple[Volume, Grid]:
    """A scan without label: canonical int16 HU, and the grid that its file states.

    Args:
        path: an image file, a folder with a DICOM series, or one file of such a series.
        series: number or UID of the series to take from a DICOM folder that holds several.

    Raises:
        InputError: the scan cannot be read, or `series` is given for a file.
    """
    with reading(path):
        image = _read_scan(Path(path), series)
    return canonical(image, is_label=False), image.grid


def is_series(path: Path) -> bool:
    """Whether a scan is read as a DICOM series: a folder, or a file that is DICOM."""
    return path.is_dir() or (path.is_file() and image_stem(path.name) is None and is_dicom(path))


def _read_scan(path: Path, series: str | None) -> Volume:
    """int16 HU on the grid of the file or series."""
    if is_series(path):
        return read_series(path, series)
    if series is not None:
        raise InputError(f"{path}: is no DICOM folder, so there is no series '{series}' to choose; leave it out")
    image = read_volume(path)
    return Volume(to_hounsfield(image.array, path), image.grid)


def _read_label(scan: ScanCase, grid: Grid) -> Volume:
    """uint8 classes on the image's grid, which is `grid`."""
    label_map = dict(scan.label_map)
    if scan.label.is_file() and image_stem(scan.label.name) is None and is_dicom(scan.label):
        return Volume(read_segmentation(scan.label, grid, label_map), grid)
    label = read_volume(scan.label)
    difference = grid_difference(label.grid, grid)
    if difference:
        raise InputError(
            f"{scan.label}: label lies on another grid than its image {scan.image.name} ({difference}); "
            "re-export it on the image's grid, labels are never resized"
        )
    return Volume(to_classes(label.array, scan.label, label_map), grid)
