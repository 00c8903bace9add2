"""Reader of a DICOM series: the choice of its slices, their geometry, and their CT numbers."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renalnet.data.dicom.groups import Series, choose_series, list_series, without_localizers
from renalnet.data.dicom.headers import list_images, read_image
from renalnet.data.dicom.phases import choose_phase
from renalnet.data.dicom.pixels import read_hounsfield
from renalnet.data.dicom.slices import Slice, direction_error, ordered_slices
from renalnet.data.images.grid import Grid, Volume
from renalnet.data.images.integrity import check_memory, check_size
from renalnet.errors import InputError


@dataclass(frozen=True)
class SeriesVolume(Volume):
    """A series as a volume."""

    direction_error: float = 0.0
    """Largest angle, in radians, by which other readers may turn its grid. It is 0 unless directions are rounded."""
    notes: tuple[str, ...] = ()
    """What is unusual about the series, such as images that were left out. One line each."""


@dataclass(frozen=True)
class _Found:
    """The slices of a series in the order of z."""

    slices: list[Slice]
    grid: Grid
    notes: tuple[str, ...]


def read_series(
    path: Path, series: str | None = None, *, phase: str | None = None, uids: Collection[str] = ()
) -> SeriesVolume:
    """Read the CT series of a folder or of a file as int16 HU (z, y, x), on the grid of its slices' positions.

    Args:
        path: a folder, which is searched with its subfolders, or one file of the series.
        series: number or UID of the series. It is required if the folder contains several.
        phase: number or time of an acquisition. It is required if the series contains several phases.
        uids: UIDs of series or images that a segmentation refers to. They choose where `series` names no series, and
            where `phase` is None.

    Raises:
        InputError: there is no CT series; there are several series or phases and none of them is chosen; the slices do
            not form a volume (see `ordered_slices`); a file cannot be decoded; or the volume does not fit into memory.
    """
    found = _find(path, series, phase, uids)
    check_memory(path, found.grid.size_xyz, np.dtype(np.int16).itemsize)
    array = np.empty(found.grid.shape, np.int16)
    for index, one in enumerate(found.slices):
        array[index] = read_hounsfield(one)
    return SeriesVolume(array, found.grid, direction_error(found.slices[0].orientation), found.notes)


def series_slices(path: Path, series: str | None = None, *, phase: str | None = None) -> tuple[list[Slice], Grid]:
    """Return the slices of a CT series in the order of z, and their grid.

    Arguments and errors are those of `read_series`.
    """
    found = _find(path, series, phase, ())
    return found.slices, found.grid


def _find(path: Path, series: str | None, phase: str | None, uids: Collection[str]) -> _Found:
    if path.is_dir():
        chosen = without_localizers(choose_series(list_images(path), series, uids))
        named = [image for image in chosen.images if image.instance_uid in uids]
    else:
        chosen = without_localizers(_series_of(path))
        named = [image for image in chosen.images if image.path == path]
    images = choose_phase(chosen.images, phase, named, path)
    slices, grid = ordered_slices([image.slice() for image in images], path)
    check_size(path, grid.size_xyz)
    return _Found(slices, grid, chosen.notes)


def _series_of(path: Path) -> Series:
    """Return the series of a file, among the files of its folder."""
    own = read_image(path)
    if own is None or not own.is_ct:
        raise InputError(f"{path}: not a CT slice; name the folder of a CT series or one of its files")
    listed = list_series(list_images(path.parent, nested=False).slices)
    return next(one for one in listed if path in [image.path for image in one.images])
