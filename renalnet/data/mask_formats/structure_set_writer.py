"""Writer of RT structure sets (RTSTRUCT): the outlines of a mask on the slices of its CT, for planning systems."""

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import Label, LabelSet
from renalnet.config.labels import Code
from renalnet.data.dicom.source_series import NAME, PATIENT_AND_STUDY, SourceSeries, refusals_reported
from renalnet.data.mask_formats.outlines import outlines
from renalnet.runtime import storage
from renalnet.types import LabelArray

if TYPE_CHECKING:
    from pydicom import Dataset

_STRUCTURE_SET: Final = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS: Final = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still the class by which a structure set names its study (PS3.3, C.8.8.5)."""
_OF_THE_CT: Final = ("StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator")
_DECIMALS: Final = 5
"""Decimals of coordinates in mm. A decimal string has at most 16 characters."""


def write_structure_set(
    path: str | Path, values: LabelArray, source: SourceSeries, *, labels: LabelSet, version: str
) -> None:
    """Write labels on a CT's slices as an RT structure set with a region (ROI) for each label, numbered by its value.

    Regions do not overlap: the kidney has no tumor in it. Each slice has a closed polygon for each part of a label, and
    holes are joined to it by a keyhole (see `outlines`). A label without a voxel is a region without contours. The
    object gets the patient, the study and the frame of reference of the CT, and a new series.

    Args:
        path: local path or URI. It is written completely or not at all.
        values: uint8 (z, y, x) on the grid of the CT's slices, with z in the order of `read_series`.
        source: slices of the CT.
        labels: meaning of the values, with the codes and the colors of the regions.
        version: version of the program, which the object records.

    Raises:
        InputError: the slices do not match `values`, or pydicom refuses their fields.
    """
    source.require_shape(values.shape)
    content = io.BytesIO()
    with refusals_reported(source, "RT structure set"):
        _structure_set(source, values, labels, version).save_as(content, enforce_file_format=True)
    storage.write_bytes(path, content.getvalue())


def _structure_set(source: SourceSeries, values: LabelArray, labels: LabelSet, version: str) -> "Dataset":
    dataset = _described(source, version)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    dataset.StructureSetROISequence = [_region(label, source.headers[0]) for label in labels.labels]
    dataset.ROIContourSequence = [_contours(label, values == label.value, source) for label in labels.labels]
    dataset.RTROIObservationsSequence = [_observation(label) for label in labels.labels]
    return dataset


def _described(source: SourceSeries, version: str) -> "Dataset":
    """Return the modules of patient, study, series, equipment and structure set."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    # In explicit encoding, the coordinates of a contour may not exceed 64 KiB.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    first, now = source.headers[0], datetime.now()
    for name in ("SpecificCharacterSet", *PATIENT_AND_STUDY, *_OF_THE_CT):
        if name in first:
            dataset[name] = first[name]
    dataset.SOPClassUID = _STRUCTURE_SET
    # Without a prefix, a UID is derived from a random UUID (root 2.25) and needs no registered organisation.
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = source.series_number
    dataset.SeriesDescription = "contours, research software"
    dataset.Modality = "RTSTRUCT"
    dataset.OperatorsName = None
    dataset.Manufacturer = NAME
    dataset.ManufacturerModelName = "3D_FCN_PPM"
    dataset.SoftwareVersions = version
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = NAME
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _frame_of_reference(source: SourceSeries) -> "Dataset":
    from pydicom import Dataset

    first = source.headers[0]
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(header) for header in source.headers]
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(header: "Dataset") -> "Dataset":
    from pydicom import Dataset

    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return image


def _region(label: Label, header: "Dataset") -> "Dataset":
    from pydicom import Dataset

    region = Dataset()
    region.ROINumber = label.value
    region.ReferencedFrameOfReferenceUID = header.FrameOfReferenceUID
    region.ROIName = label.title
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    return region


def _contours(label: Label, mask: NDArray[np.bool_], source: SourceSeries) -> "Dataset":
    from pydicom import Dataset

    contours = Dataset()
    contours.ReferencedROINumber = label.value
    contours.ROIDisplayColor = list(label.rgb)
    if mask.any():
        contours.ContourSequence = list(_contour_items(mask, source))
    return contours


def _contour_items(mask: NDArray[np.bool_], source: SourceSeries) -> Iterator["Dataset"]:
    from pydicom import Dataset

    number = 0
    for plane, header in zip(mask, source.headers, strict=True):
        for polygon in outlines(plane):
            number += 1
            item = Dataset()
            item.ContourNumber = number
            item.ContourImageSequence = [_reference(header)]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(polygon)
            item.ContourData = [f"{value:.{_DECIMALS}f}" for value in _placed(polygon, header, source).ravel()]
            yield item


def _placed(polygon: NDArray[np.float64], header: "Dataset", source: SourceSeries) -> NDArray[np.float64]:
    """Return the corners (n, 3) in LPS mm on the plane of a slice."""
    # The position is the slice's own: positions are rounded, so they may be off the grid.
    axes = np.array(source.grid.direction).reshape(3, 3)[:, :2] * source.grid.spacing_xyz_mm[:2]
    return np.asarray(np.array(header.ImagePositionPatient, dtype=np.float64) + polygon @ axes.T)


def _observation(label: Label) -> "Dataset":
    from pydicom import Dataset

    observation = Dataset()
    observation.ObservationNumber = label.value
    observation.ReferencedROINumber = label.value
    observation.RTROIIdentificationCodeSequence = [_coded(label.type_code)]
    observation.RTROIInterpretedType = "" if label.lesion_of else "ORGAN"
    observation.ROIInterpreter = None
    return observation


def _coded(code: Code) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
