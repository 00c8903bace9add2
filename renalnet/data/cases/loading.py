"""Loading of scans and label maps from disk as cases in canonical geometry.

Nothing is resized, and only the geometry is read from headers.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.cases.layouts import ScanCase, find_cases
from renalnet.data.cases.placing import on_grid
from renalnet.data.dicom.file import has_dicom_ending, is_dicom
from renalnet.data.dicom.segmentation import read_segmentation, referenced_uids
from renalnet.data.dicom.series import SeriesVolume, read_series
from renalnet.data.images.hounsfield import AIR_HU, to_hounsfield
from renalnet.data.images.label_values import parse_label_map
from renalnet.data.images.mask_files import read_label_file
from renalnet.data.images.slicer_segmentation import has_segments
from renalnet.data.images.volume import Grid, Volume, canonical, image_stem, read_volume
from renalnet.errors import InputError
from renalnet.runtime.storage import reading
from renalnet.types import BACKGROUND

__all__ = [
    "AIR_HU",
    "LoadedCase",
    "ScanCase",
    "find_cases",
    "is_series",
    "load_case",
    "load_scan",
    "parse_label_map",
]


@dataclass(frozen=True)
class LoadedCase:
    """A case in canonical geometry."""

    case: str
    """Name of the case."""
    image: Volume
    """int16 HU (z, y, x), canonical."""
    label: Volume
    """uint8 labels (z, y, x), canonical, on the image's grid."""
    source: Grid
    """Grid of the image's file."""
    labels: LabelSet
    """Meaning of the labels."""
    notes: tuple[str, ...] = ()
    """What is unusual about the scan's DICOM series, one line each."""

    @property
    def body(self) -> Volume:
        """The label map with only the kidneys and their lesions."""
        if len(self.labels.body) == len(self.labels):
            # A scan may have a hundred million voxels, so nothing is copied without need.
            return self.label
        mask = self.labels.body_mask(self.label.array)
        return Volume(np.where(mask, self.label.array, 0).astype(np.uint8), self.label.grid)


def load_case(scan: ScanCase) -> LoadedCase:
    """Read and check a case and reorient it to canonical geometry.

    CT numbers are rounded and clamped to [-1024, 32767] HU.

    Raises:
        InputError: a file cannot be read; image and label map are on different grids; the image has values that are
            not finite; or a label is neither in the case's label set nor in its `label_map`.
    """
    with reading(scan.label):
        # A segmentation names the series and the phase on which it was drawn.
        uids = referenced_uids(scan.label) if scan.image.is_dir() and _is_segmentation(scan.label) else frozenset()
    with reading(scan.image):
        image = _read_scan(scan.image, scan.series, scan.phase, uids)
    # Labels are compared with the grid of the file, before an oblique image gets another grid in `canonical`.
    with reading(scan.label), _swap_reported(scan, image):
        label = _read_label(scan, image)
    return LoadedCase(
        scan.case,
        canonical(image, is_label=False),
        canonical(label, is_label=True),
        image.grid,
        scan.labels,
        image.notes,
    )


@contextmanager
def _swap_reported(scan: ScanCase, image: Volume) -> Iterator[None]:
    """Name the cause where a label map cannot be read because image and label map are swapped."""
    try:
        yield
    except InputError as error:
        low = int(image.array.min())
        high = int(image.array.max())
        if low == BACKGROUND < high <= max(len(scan.labels), *dict(scan.label_map), 0):
            raise InputError(
                f"{scan.image}: holds only label values ({low} to {high}), and {scan.label} holds others: image and "
                "label map seem to be swapped; exchange the two files"
            ) from error
        raise


def load_scan(path: str | Path, *, series: str | None = None, phase: str | None = None) -> tuple[SeriesVolume, Grid]:
    """Read a scan without a label map.

    Args:
        path: image file, folder with a DICOM series, or one file of such a series.
        series: number or UID of the series, if a DICOM folder contains several.
        phase: number or time of an acquisition, if the series contains several phases.

    Returns:
        The canonical scan, int16 HU (z, y, x), with notes of what is unusual about its series, and the grid of its
        file.

    Raises:
        InputError: the scan cannot be read, or `series` or `phase` is given for an image file.
    """
    with reading(path):
        image = _read_scan(Path(path), series, phase)
    upright = canonical(image, is_label=False)
    return SeriesVolume(upright.array, upright.grid, notes=image.notes), image.grid


def is_series(path: Path) -> bool:
    """Whether a scan is read as a DICOM series: it is a folder, or a DICOM file by its content or its ending."""
    is_file = path.is_file() and image_stem(path.name) is None
    return path.is_dir() or (is_file and (has_dicom_ending(path) or is_dicom(path)))


def _is_segmentation(path: Path) -> bool:
    return path.is_file() and image_stem(path.name) is None and is_dicom(path)


def _read_scan(path: Path, series: str | None, phase: str | None, uids: Collection[str] = ()) -> SeriesVolume:
    """Return int16 HU on the grid of the file or series."""
    if is_series(path):
        return read_series(path, series, phase=phase, uids=uids)
    for name, value in (("series", series), ("phase", phase)):
        if value is not None:
            raise InputError(f"{path}: not DICOM, so {name} '{value}' cannot be selected; leave the option out")
    if has_segments(path):
        raise InputError(f"{path}: a segmentation of 3D Slicer, which is no scan; name the CT that it belongs to")
    image = read_volume(path)
    return SeriesVolume(to_hounsfield(image.array, path), image.grid)


def _read_label(scan: ScanCase, image: SeriesVolume) -> Volume:
    """Return uint8 classes on the grid of the image."""
    grid = image.grid
    label_map = dict(scan.label_map)
    if _is_segmentation(scan.label):
        array = read_segmentation(scan.label, grid, scan.labels, label_map, image.direction_error)
        return Volume(array, grid)
    label = read_label_file(scan.label, scan.labels, label_map)
    return on_grid(
        label,
        grid,
        scan.label,
        than=f"its image {scan.image.name}",
        remedy="re-export it on the image's grid, labels are never resized",
        direction_error=image.direction_error,
    )
