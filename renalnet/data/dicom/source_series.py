"""What a DICOM object about a CT series takes from its slices: patient, study, frame of reference and identifiers."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from renalnet.data.dicom.file import dicom_errors_reported, quiet_libraries
from renalnet.data.dicom.series import series_slices
from renalnet.data.images.grid import Grid
from renalnet.errors import InputError
from renalnet.types import Shape

if TYPE_CHECKING:
    from pydicom import Dataset

NAME: Final = "renalnet"
"""Manufacturer of the objects."""
PATIENT_AND_STUDY: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Type 2 fields of patient and study: the standard requires them, possibly empty, but some writers leave them out."""
_MAY_BE_EMPTY: Final = (*PATIENT_AND_STUDY, "PositionReferenceIndicator")
_UIDS: Final = ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID")
_OF_ALL_SLICES: Final = (*_MAY_BE_EMPTY, "SpecificCharacterSet", "ImageOrientationPatient", "PixelSpacing")
"""Fields that an object has once. Slices may differ in them by rounding or by a careless anonymisation."""


@dataclass(frozen=True)
class SourceSeries:
    """The slices of a CT series, as an object that refers to them needs them."""

    scan: Path
    """Folder of the CT, or one of its files."""
    headers: Sequence["Dataset"]
    """Headers of the slices in the order of `read_series`, without pixels. Identifiers and orientation are equal."""
    grid: Grid
    """Grid of the slices."""
    remarks: tuple[str, ...] = ()
    """A line for each identifier in which the slices differ."""

    def require_shape(self, shape: Shape) -> None:
        """Raise InputError if labels of this shape (z, y, x) are not on the slices."""
        if shape != self.grid.shape:
            rule = f"must have the shape of its slices, {self.grid.shape}; resample them to its grid"
            raise InputError(f"{self.scan}: labels of shape {shape} {rule}")

    @property
    def series_number(self) -> int:
        """A series number for an object. It differs from that of the CT and ends with it."""
        return 1000 + abs(int(self.headers[0].get("SeriesNumber") or 0)) % 9000


def read_source(scan: Path, series: str | None = None, *, phase: str | None = None) -> SourceSeries:
    """Return the slices of a CT series.

    A field that slices have differently is that of most slices, or of the lowest one, and a missing slice thickness is
    the distance of the slices. Dates, times and a sex that the standard does not allow are left empty.

    Args:
        scan: folder of the CT, or one of its files.
        series: number or UID of the series, if the folder contains several.
        phase: number or time of an acquisition, if the series contains several phases.

    Raises:
        InputError: the scan is not a CT series, or a slice has no identifier of its own.
    """
    slices, grid = series_slices(scan, series, phase=phase)
    headers = [_header(one.path) for one in slices]
    with dicom_errors_reported(scan):
        remarks = [remark for name in _UIDS if (remark := _made_equal(headers, name))]
        for header in headers:
            for name in _OF_ALL_SLICES:
                _copy(headers[0], header, name)
            if header.get("SliceThickness") is None:
                header.SliceThickness = grid.spacing_mm[0]
    return SourceSeries(scan, headers, grid, tuple(f"{scan}: {remark}" for remark in remarks))


@contextmanager
def refusals_reported(source: SourceSeries, kind: str) -> Iterator[None]:
    """Turn any error while an object is made into an InputError, and suppress warnings and log lines.

    The message quotes an error of pydicom or highdicom only where it holds no value of the patient's fields.

    Args:
        source: slices of the CT.
        kind: what is made, such as `DICOM segmentation`.
    """
    with quiet_libraries():
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - what the libraries raise has no common base class
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            told = type(error).__name__ if _quotes_patient(source.headers[0], reason) else reason
            raise InputError(
                f"{source.scan}: no {kind} was written ({told}); use the other files of this mask, or export the "
                "series again"
            ) from None


def _quotes_patient(header: "Dataset", message: str) -> bool:
    values = [str(header.get(name) or "") for name in PATIENT_AND_STUDY]
    words = [word for value in values for word in re.split(r"[\s^=]+", value.lower())]
    # A single letter, such as the sex, is in every message.
    return any(word in message.lower() for word in words if len(word) > 1)


def _header(path: Path) -> "Dataset":
    """Return the header of a slice with all fields that an object needs.

    Anonymisation may have removed some. The identifiers of the slice are then read from the file's meta header. The
    identifiers of study and series are derived from the frame of reference, so that all slices get the same ones.
    """
    from pydicom import FileMetaDataset, dcmread
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    with dicom_errors_reported(path):
        dataset = dcmread(path, force=True, stop_before_pixels=True)
        meta = dataset.file_meta
        dataset.SOPClassUID = dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or CTImageStorage
        dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")
        if not dataset.SOPInstanceUID:
            raise InputError(f"{path}: has no SOPInstanceUID, so no object can refer to it; export the series again")
        # highdicom refuses slices whose files are in big-endian order or lack their meta header.
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        # The folder stands in for a missing frame of reference: all slices of a series are in one folder.
        frame = str(dataset.get("FrameOfReferenceUID") or path.parent.absolute())
        for name in _UIDS:
            setattr(dataset, name, dataset.get(name) or generate_uid(entropy_srcs=[frame, name]))
        _empty_invalid(dataset)
    return dataset


def _empty_invalid(dataset: "Dataset") -> None:
    """Add missing fields of `_MAY_BE_EMPTY` and empty those that the standard does not allow."""
    for name in _MAY_BE_EMPTY:
        value = dataset.get(name)
        if value is None or not _is_allowed(name, value):
            setattr(dataset, name, None)


def _is_allowed(name: str, value: Any) -> bool:
    from pydicom.valuerep import DA, TM

    rules: Mapping[str, Callable[[str], object]] = {
        "PatientBirthDate": DA,
        "StudyDate": DA,
        "StudyTime": TM,
        "PatientSex": {"": "", "M": "M", "F": "F", "O": "O"}.__getitem__,
    }
    try:
        rules.get(name, str)(str(value))
    except (ValueError, KeyError):
        return False
    return True


def _made_equal(headers: Sequence["Dataset"], name: str) -> str:
    """Give all slices the most frequent value of an identifier. Return a remark where they differed, else ""."""
    counts = Counter(str(header.get(name)) for header in headers)
    (usual, _), *others = counts.most_common()
    for header in headers:
        setattr(header, name, usual)
    if not others:
        return ""
    return f"slices have {len(counts)} values of {name}; the DICOM files that were written have that of most slices"


def _copy(source: "Dataset", target: "Dataset", name: str) -> None:
    if name in source:
        setattr(target, name, source.get(name))
    elif name in target:
        delattr(target, name)
