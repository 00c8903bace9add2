"""The DICOM images of a folder, with the fields of their headers that assign them to series and phases.

Only geometry, modality, time and identifiers are read from a header, and nothing about the patient.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from renalnet.data.dicom.file import dicom_errors_reported, has_dicom_ending, is_dicom, read_dicom
from renalnet.data.dicom.folders import files_below
from renalnet.data.dicom.slices import Slice
from renalnet.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

# SOP classes (DICOM PS3.4): screenshots and scanned documents; single CT slices; binary segmentations and label maps.
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_SEGMENTATION: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_HEADER_TAGS: Final = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionNumber",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
]
_DATE_DIGITS: Final = 8
"""Digits of the date before the time of AcquisitionDateTime."""


@dataclass(frozen=True)
class DicomImage:
    """An image object of a folder, with the fields that assign it to a series. Missing fields are empty."""

    path: Path
    sop_class: str
    instance_uid: str
    modality: str
    is_localizer: bool
    series_uid: str
    series_number: str
    header: "Dataset" = field(repr=False, compare=False)
    """Unparsed fields. They are parsed only if the image's series is chosen, since others may be damaged."""

    @property
    def is_ct(self) -> bool:
        """Whether the image is a CT slice, and not a localizer, a screenshot or an image of another modality."""
        is_slice = self.modality == "CT" or (not self.modality and self.sop_class == _CT)
        return is_slice and not self.is_localizer and not self.sop_class.startswith(_SECONDARY_CAPTURE)

    @property
    def is_segmentation(self) -> bool:
        """Whether the object is a DICOM segmentation."""
        return self.sop_class in _SEGMENTATION

    @property
    def acquisition(self) -> str:
        """Acquisition number; empty if it is missing or damaged."""
        return _number(self._value("AcquisitionNumber"))

    @property
    def frame_of_reference(self) -> str:
        """UID of the frame of reference."""
        return self._value("FrameOfReferenceUID")

    @property
    def time(self) -> str:
        """Time of the acquisition as HHMMSS or HHMMSS.FFFFFF (DICOM PS3.5, VR TM); empty if missing or damaged."""
        moment = self._value("AcquisitionDateTime").partition("+")[0].partition("-")[0]
        time = self._value("AcquisitionTime") or moment[_DATE_DIGITS:]
        whole, _, fraction = time.partition(".")
        is_time = len(whole) == len("HHMMSS") and (whole + fraction).isascii() and (whole + fraction).isdigit()
        return time if is_time else ""

    def slice(self) -> Slice:
        """Return the geometry of the image. Raises InputError for a damaged header and for images that are no slice."""
        with dicom_errors_reported(self.path):
            return _parse_slice(self.path, self.header)

    def _value(self, name: str) -> str:
        """Return a field that a slice may lack; empty if it is missing, empty or damaged."""
        try:
            with dicom_errors_reported(self.path):
                value = self.header.get(name)
        except InputError:
            return ""
        return "" if value is None else str(value).strip()

    @cached_property
    def geometry(self) -> Slice | None:
        """The geometry of the image, or None if it cannot be told."""
        try:
            return self.slice()
        except InputError:
            return None


@dataclass(frozen=True)
class DicomFolder:
    """The DICOM objects of a folder."""

    folder: Path
    images: tuple[DicomImage, ...]
    num_ignored: int
    """Number of files that are not DICOM images, such as DICOMDIR."""

    @property
    def slices(self) -> list[DicomImage]:
        """The CT slices, of all series."""
        return [image for image in self.images if image.is_ct]

    @property
    def segmentations(self) -> list[Path]:
        """Files that contain a DICOM segmentation object."""
        return [image.path for image in self.images if image.is_segmentation]


def contains_dicom(folder: Path) -> bool:
    """Whether a folder or one of its subfolders contains a DICOM file, or a file with the ending of one."""
    return any(has_dicom_ending(path) or is_dicom(path) for path in files_below(folder))


def list_images(folder: Path, *, nested: bool = True) -> DicomFolder:
    """Return the image objects of a folder, including its subfolders if `nested`.

    Raises:
        InputError: a file starts like a DICOM file or has its ending, but cannot be read.
    """
    paths = files_below(folder, nested=nested)
    images = [image for path in paths if (image := read_image(path))]
    return DicomFolder(folder, tuple(images), len(paths) - len(images))


def read_image(path: Path) -> DicomImage | None:
    """Return the image object of a file, or None if the file is not a DICOM image.

    Raises:
        InputError: the file starts like a DICOM file or has its ending, but cannot be read.
    """
    if not is_dicom(path):
        if has_dicom_ending(path):
            raise InputError(f"{path}: has the ending of DICOM but not its content; copy it again or remove it")
        return None
    return read_dicom(path, lambda dataset: _described(path, dataset), _HEADER_TAGS)


def _described(path: Path, dataset: "Dataset") -> DicomImage | None:
    if not _has_image(path, dataset):
        return None
    kinds = dataset.get("ImageType") or ()
    return DicomImage(
        path,
        sop_class=str(dataset.get("SOPClassUID") or ""),
        instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        is_localizer="LOCALIZER" in ([kinds] if isinstance(kinds, str) else list(kinds)),
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        series_number="" if dataset.get("SeriesNumber") is None else str(dataset.SeriesNumber),
        header=dataset,
    )


def _has_image(path: Path, dataset: "Dataset") -> bool:
    """Whether a file has, or should have, pixels. Raises InputError for a slice that lost its kind and modality."""
    modality = dataset.get("Modality")
    sop_class = dataset.get("SOPClassUID")
    if modality is None and sop_class is None:
        if has_dicom_ending(path):
            raise InputError(
                f"{path}: damaged DICOM file (it lacks SOPClassUID and Modality); copy it again or remove it"
            )
        return False  # a DICOMDIR, the index of a disk
    # A CT without "Rows" is damaged and must be reported; other objects without pixels (reports, plans) are ignored.
    return "Rows" in dataset or modality == "CT" or sop_class == _CT


def _number(text: str) -> str:
    return text if text.isascii() and text.isdigit() else ""


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
