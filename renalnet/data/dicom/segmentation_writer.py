"""Writer of DICOM segmentation objects. They refer to the slices of their CT, so that a PACS files them with it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from renalnet.config import Label, LabelSet
from renalnet.config.labels import Code
from renalnet.data.dicom.series import series_slices
from renalnet.errors import InputError
from renalnet.runtime import storage
from renalnet.types import LabelArray

if TYPE_CHECKING:
    from pydicom import Dataset

NAME: Final = "renalnet"
_MAY_BE_EMPTY: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
"""Type 2 fields: the standard requires them, possibly empty, but some writers leave them out."""
_MAX_TEXT: Final = 64
"""Most characters of a description (VR LO)."""


def write_segmentation(
    path: str | Path,
    values: LabelArray,
    scan: Path,
    *,
    labels: LabelSet,
    series: str | None = None,
    phase: str | None = None,
    version: str,
) -> None:
    """Write labels on a CT's slices as a binary segmentation with a segment for each label, numbered by its value.

    The object gets the patient and the study of the CT, and a new series. Empty frames are left out. An empty mask
    keeps all of them, because an object must have a frame.

    Args:
        path: local path or URI. It is written completely or not at all.
        values: uint8 (z, y, x) on the grid of the CT's slices, with z in the order of `read_series`.
        scan: folder of the CT, or one of its files.
        labels: meaning of the values, with the codes of the segments.
        series: number or UID of the series, if the folder contains several.
        phase: number or time of an acquisition, if the series contains several phases.
        version: version of the program, which the object records.

    Raises:
        InputError: the scan is not a CT series, or its slices do not match `values`.
    """
    slices, grid = series_slices(scan, series, phase=phase)
    if grid.shape != values.shape:
        rule = f"must have the shape of its slices, {grid.shape}; resample them to its grid"
        raise InputError(f"{scan}: labels of shape {values.shape} {rule}")
    content = io.BytesIO()
    _segmentation([_header(one.path) for one in slices], values, labels, version).save_as(content)
    storage.write_bytes(path, content.getvalue())


def _segmentation(sources: list["Dataset"], values: LabelArray, labels: LabelSet, version: str) -> Any:
    import highdicom
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack([values == label.value for label in labels.labels], axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(labels, version),
        # Without a prefix, a UID is derived from a random UUID (root 2.25) and needs no registered organisation.
        series_instance_uid=generate_uid(prefix=None),
        series_number=_series_number(sources),
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name="3D_FCN_PPM",
        software_versions=version,
        # highdicom requires a serial number, which a program does not have.
        device_serial_number="0",
        series_description=_series_description(labels),
        omit_empty_frames=bool(values.any()),
    )


def _series_description(labels: LabelSet) -> str:
    *others, last = [f"renal {label.title}" if label in labels.lesions else label.title for label in labels.labels]
    described = f"{', '.join(others)} and {last}, research software"
    return described if len(described) <= _MAX_TEXT else f"{labels.name}, research software"


def _header(path: Path) -> "Dataset":
    """Return the header of a slice with all identifiers that highdicom requires.

    Anonymisation may have removed them. The identifiers of the object are then read from the file's meta header. The
    identifiers of study and series are derived from the frame of reference, so that all slices get the same ones.
    """
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    dataset = dcmread(path, stop_before_pixels=True, force=True)
    dataset.SOPClassUID = dataset.get("SOPClassUID") or dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or dataset.file_meta.MediaStorageSOPInstanceUID
    # The folder stands in for a missing frame of reference: all slices of a series are in one folder.
    for name in ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        known = [str(dataset.get("FrameOfReferenceUID") or path.parent.absolute()), name]
        setattr(dataset, name, dataset.get(name) or generate_uid(entropy_srcs=known))
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, None)
    return dataset


def _descriptions(labels: LabelSet, version: str) -> list[Any]:
    import highdicom
    from highdicom.sr import CodedConcept

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME, version=version, family=CodedConcept("123109", "DCM", "Artificial Intelligence")
    )
    return [_description(label, algorithm) for label in labels.labels]


def _description(label: Label, algorithm: Any) -> Any:
    import highdicom

    return highdicom.seg.SegmentDescription(
        segment_number=label.value,
        segment_label=label.title,
        segmented_property_category=_concept(label.category),
        segmented_property_type=_concept(label.type_code),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _series_number(sources: Sequence["Dataset"]) -> int:
    """Return a series number that differs from that of the CT and ends with it."""
    return 1000 + int(sources[0].get("SeriesNumber") or 0) % 9000
