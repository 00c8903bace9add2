"""Reader of a DICOM series: files that belong together, the geometry of their slices, and their CT numbers.

Only geometry, modality, and the number and UID of the series are read from a header, and nothing about the patient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from renalnet.data.dicom.file import dicom_errors_reported, is_dicom, read_dicom
from renalnet.data.dicom.pixels import read_hounsfield
from renalnet.data.dicom.slices import Slice, ordered_slices
from renalnet.data.images.grid import MAX_VOXELS, Grid, Volume
from renalnet.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

# SOP classes (DICOM PS3.4): screenshots and scanned documents; binary segmentations and label maps.
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
class DicomImage:
    """An image object of a folder, with the fields that assign it to a series."""

    path: Path
    sop_class: str
    modality: str
    is_localizer: bool
    series_uid: str
    series_number: str
    header: "Dataset" = field(repr=False, compare=False)
    """Unparsed geometry fields. They are parsed only if the image's series is chosen, since others may be damaged."""

    @property
    def is_ct(self) -> bool:
        """Whether the image is a CT slice, and not a localizer, a screenshot or an image of another modality."""
        return self.modality == "CT" and not self.is_localizer and not self.sop_class.startswith(_SECONDARY_CAPTURE)

    @property
    def series(self) -> tuple[str, str]:
        """Number and UID, which all slices of a series share."""
        return self.series_number, self.series_uid


@dataclass(frozen=True)
class DicomFolder:
    """The DICOM objects of a folder."""

    folder: Path
    images: tuple[DicomImage, ...]
    num_ignored: int
    """Number of files that are not DICOM images, such as DICOMDIR."""

    @property
    def segmentations(self) -> list[Path]:
        """Files that contain a DICOM segmentation object."""
        return [image.path for image in self.images if image.sop_class in _SEGMENTATION]


def contains_dicom(folder: Path) -> bool:
    """Whether a folder or one of its subfolders contains a DICOM file."""
    return any(is_dicom(path) for path in _files(folder))


def list_images(folder: Path, *, nested: bool = True) -> DicomFolder:
    """Return the image objects of a folder, including its subfolders if `nested`.

    Raises:
        InputError: a file starts like a DICOM file or has its ending, but cannot be read.
    """
    paths = list(_files(folder, nested=nested))
    images = [image for path in paths if (image := _image(path))]
    return DicomFolder(folder, tuple(images), len(paths) - len(images))


def read_series(path: Path, series: str | None = None) -> Volume:
    """Read the CT series of a folder or of a file as int16 HU (z, y, x), on the grid of its slices' positions.

    Args:
        path: a folder, which is searched with its subfolders, or one file of the series.
        series: number or UID of the series. It is required if the folder contains several.

    Raises:
        InputError: there is no CT series; there are several and `series` selects none of them; the slices do not form
            a volume (see `ordered_slices`); or a file cannot be decoded.
    """
    slices, grid = series_slices(path, series)
    array = np.empty(grid.shape, np.int16)
    for index, one in enumerate(slices):
        array[index] = read_hounsfield(one)
    return Volume(array, grid)


def series_slices(path: Path, series: str | None = None) -> tuple[list[Slice], Grid]:
    """Return the slices of a CT series in the order of z, and their grid.

    Arguments and errors are those of `read_series`.
    """
    if path.is_dir():
        chosen = _choose(list_images(path), series)
    else:
        own = _image(path)
        if own is None or not own.is_ct:
            raise InputError(f"{path}: not a CT slice; name the folder of a CT series or one of its files")
        listed = list_images(path.parent, nested=False)
        chosen = [image for image in listed.images if image.is_ct and image.series == own.series]
    slices, grid = ordered_slices([_slice(image) for image in chosen], path)
    if np.prod(grid.shape, dtype=np.float64) > MAX_VOXELS:
        size = f"{len(slices)} slices of {grid.shape[1]}×{grid.shape[2]} pixels"
        raise InputError(f"{path}: {size} exceed {MAX_VOXELS} voxels; copy or export the series again")
    return slices, grid


def _files(folder: Path, *, nested: bool = True) -> Iterator[Path]:
    for path in sorted(folder.rglob("*") if nested else folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _image(path: Path) -> DicomImage | None:
    """Return the image object of a file, or None if the file is not a DICOM image."""
    if not is_dicom(path):
        if path.suffix.lower() == ".dcm":
            raise InputError(f"{path}: has the ending of DICOM but not its content; copy it again or remove it")
        return None
    return read_dicom(path, lambda dataset: _described(path, dataset), _HEADER_TAGS)


def _described(path: Path, dataset: "Dataset") -> DicomImage | None:
    if dataset.get("Modality") is None and dataset.get("SOPClassUID") is None:
        return None  # a DICOMDIR, the index of a disk
    # A CT without "Rows" is damaged and must be reported; other objects without pixels (reports, plans) are ignored.
    if "Rows" not in dataset and dataset.get("Modality") != "CT":
        return None
    kinds = dataset.get("ImageType") or ()
    return DicomImage(
        path,
        str(dataset.get("SOPClassUID", "")),
        str(dataset.get("Modality", "")),
        "LOCALIZER" in ([kinds] if isinstance(kinds, str) else list(kinds)),
        str(dataset.get("SeriesInstanceUID") or ""),
        "" if dataset.get("SeriesNumber") is None else str(dataset.SeriesNumber),
        dataset,
    )


def _choose(listing: DicomFolder, series: str | None) -> list[DicomImage]:
    found: dict[tuple[str, str], list[DicomImage]] = {}
    for image in listing.images:
        if image.is_ct:
            found.setdefault(image.series, []).append(image)
    if not found:
        raise _no_series(listing)
    order = sorted(found, key=lambda key: (len(key[0]), key))  # series 2 before series 10
    selected = [key for key in order if series is None or series in key]
    if len(selected) == 1:
        return found[selected[0]]
    listed = "; ".join(_describe(found[key]) for key in order[:_MAX_LISTED])
    wanted = "" if series is None else f" and series '{series}' names {'none' if not selected else 'several'} of them"
    raise InputError(
        f"{listing.folder}: holds {len(found)} CT series{wanted}; choose one with --series NUMBER or UID: {listed}"
    )


def _no_series(listing: DicomFolder) -> InputError:
    others = sorted({image.modality or "unknown" for image in listing.images})
    content = f"images of modality {', '.join(others)}" if others else "no DICOM image"
    return InputError(
        f"{listing.folder}: holds no CT slices ({content}, {listing.num_ignored} other files ignored); "
        "name the folder of a CT series"
    )


def _describe(images: Sequence[DicomImage]) -> str:
    number, uid = images[0].series
    return f"{number or 'without number'} ({len(images)} slices, {uid or 'no UID'})"


def _slice(image: DicomImage) -> Slice:
    with dicom_errors_reported(image.path):
        return _parse_slice(image.path, image.header)


def _parse_slice(path: Path, dataset: "Dataset") -> Slice:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: a multi-frame CT; convert it to single slices (dcm4che's emf2sf) or to NIfTI")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: a colour image, not a CT slice; remove it")
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
