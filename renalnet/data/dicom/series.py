"""A DICOM series as a volume of CT numbers: which files belong together, where their slices lie, what they hold.

Of a header only geometry, modality and the series' number and UID are read. The distance of slices is that of their
positions; SliceThickness plays no part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from renalnet.data.dicom.file import is_dicom, parsed, refusing
from renalnet.data.dicom.pixels import read_hounsfield
from renalnet.data.dicom.slices import Slice, ordered_slices
from renalnet.data.images.grid import MAX_VOXELS, Grid, Volume
from renalnet.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_SEGMENTATION: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_HEADER_TAGS: Final = [
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
]
_MAX_LISTED: Final = 8


@dataclass(frozen=True)
class Image:
    """An image object of a folder, as far as sorting it needs."""

    path: Path
    sop_class: str
    modality: str
    is_localizer: bool
    series_uid: str
    series_number: str
    header: "Dataset" = field(repr=False, compare=False)
    """The fields that place it; parsed only where its series is chosen."""

    @property
    def is_ct(self) -> bool:
        """Whether it is a slice, rather than a localizer, a screenshot or another modality's."""
        return self.modality == "CT" and not self.is_localizer and not self.sop_class.startswith(_SECONDARY_CAPTURE)

    @property
    def series(self) -> tuple[str, str]:
        """What slices of one series share."""
        return self.series_number, self.series_uid


@dataclass(frozen=True)
class Listing:
    """The DICOM objects of a folder."""

    folder: Path
    images: tuple[Image, ...]
    num_passed_over: int
    """Files that are no DICOM images, DICOMDIR among them."""

    @property
    def segmentations(self) -> list[Path]:
        """The DICOM-SEG objects."""
        return [image.path for image in self.images if image.sop_class in _SEGMENTATION]


def holds_dicom(folder: Path) -> bool:
    """Whether a file of a folder, or of folders in it, is DICOM."""
    return any(is_dicom(path) for path in _files(folder))


def list_images(folder: Path, *, nested: bool = True) -> Listing:
    """The image objects of a folder and of the folders in it.

    Raises:
        InputError: a file begins as a DICOM file or is named like one, but cannot be read.
    """
    paths = list(_files(folder, nested=nested))
    images = [image for path in paths if (image := _image(path))]
    return Listing(folder, tuple(images), len(paths) - len(images))


def read_series(path: Path, series: str | None = None) -> Volume:
    """Read the CT series of a folder, or the one that a file belongs to: int16 HU, on the grid of the positions.

    Args:
        path: a folder, looked through with the folders in it, or a file.
        series: number or UID of the series to take; needed where there are several.

    Raises:
        InputError: there is no CT series or more than one and none is named, or its slices make no volume
            (see `ordered_slices`), or a file cannot be decoded.
    """
    slices, grid = series_slices(path, series)
    array = np.empty(grid.shape, np.int16)
    for index, one in enumerate(slices):
        array[index] = read_hounsfield(one)
    return Volume(array, grid)


def series_slices(path: Path, series: str | None = None) -> tuple[list[Slice], Grid]:
    """The slices of a CT series in the order of z on their grid; arguments and errors are those of `read_series`."""
    if path.is_dir():
        chosen = _choose(list_images(path), series)
    else:
        own = _image(path)
        if own is None or not own.is_ct:
            raise InputError(f"{path}: is no slice of a CT; name a CT series' folder or one of its files")
        listed = list_images(path.parent, nested=False)
        chosen = [image for image in listed.images if image.is_ct and image.series == own.series]
    slices, grid = ordered_slices([_slice(image) for image in chosen], path)
    if np.prod(grid.shape, dtype=np.float64) > MAX_VOXELS:
        raise InputError(f"{path}: {len(slices)} slices of {grid.shape[1]}×{grid.shape[2]} are not one of a scan")
    return slices, grid


def _files(folder: Path, *, nested: bool = True) -> Iterator[Path]:
    for path in sorted(folder.rglob("*") if nested else folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _image(path: Path) -> Image | None:
    """What a file is; none where it is no DICOM image."""
    if not is_dicom(path):
        if path.suffix.lower() == ".dcm":
            raise InputError(f"{path}: is named like DICOM but is none; copy it again or remove it")
        return None
    return parsed(path, lambda dataset: _described(path, dataset), _HEADER_TAGS)


def _described(path: Path, dataset: "Dataset") -> Image | None:
    if dataset.get("Modality") is None and dataset.get("SOPClassUID") is None:
        return None  # DICOMDIR
    if "Rows" not in dataset and dataset.get("Modality") != "CT":
        return None
    kinds = dataset.get("ImageType") or ()
    return Image(
        path,
        str(dataset.get("SOPClassUID", "")),
        str(dataset.get("Modality", "")),
        "LOCALIZER" in ([kinds] if isinstance(kinds, str) else list(kinds)),
        str(dataset.get("SeriesInstanceUID") or ""),
        "" if dataset.get("SeriesNumber") is None else str(dataset.SeriesNumber),
        dataset,
    )


def _choose(listing: Listing, series: str | None) -> list[Image]:
    found: dict[tuple[str, str], list[Image]] = {}
    for image in listing.images:
        if image.is_ct:
            found.setdefault(image.series, []).append(image)
    if not found:
        others = sorted({image.modality or "unknown" for image in listing.images})
        there = f"images of modality {', '.join(others)}" if others else "no DICOM image"
        raise InputError(
            f"{listing.folder}: holds no CT slices ({there}, {listing.num_passed_over} other files passed over); "
            "name the folder of a CT series"
        )
    order = sorted(found, key=lambda key: (len(key[0]), key))  # 2 before 10
    named = [key for key in order if series is None or series in key]
    if len(named) == 1:
        return found[named[0]]
    words = "; ".join(_words(found[key]) for key in order[:_MAX_LISTED])
    wanted = "" if series is None else f" and series '{series}' names {'none' if not named else 'several'} of them"
    raise InputError(
        f"{listing.folder}: holds {len(found)} CT series{wanted}; choose one with --series NUMBER or UID: {words}"
    )


def _words(images: Sequence[Image]) -> str:
    number, uid = images[0].series
    return f"{number or 'without number'} ({len(images)} slices, {uid or 'no UID'})"


def _slice(image: Image) -> Slice:
    with refusing(image.path):
        return _placed(image.path, image.header)


def _placed(path: Path, dataset: "Dataset") -> Slice:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: a multi-frame CT; convert it to single slices (dcm4che's emf2sf) or to NIfTI")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: a colour image, no CT slice; remove it")
    return Slice(
        path,
        (int(dataset.Rows), int(dataset.Columns)),
        _floats(dataset.PixelSpacing, 2),
        _floats(dataset.ImagePositionPatient, 3),
        _floats(dataset.ImageOrientationPatient, 6),
    )


def _floats(values: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers instead of {count}")
    return numbers
