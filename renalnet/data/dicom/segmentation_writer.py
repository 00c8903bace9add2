"""A mask as a DICOM segmentation object that refers to the slices of its CT, as a PACS files and shows it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from renalnet.data.dicom.series import series_slices
from renalnet.errors import InputError
from renalnet.runtime import storage
from renalnet.types import KIDNEY, TUMOR, LabelArray

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
"""Of patient, study and frame of reference: the standard wants them, empty or not (type 2); some writers leave them."""
_CATEGORIES: Final = {
    KIDNEY: ("123037004", "SCT", "Anatomical Structure"),
    TUMOR: ("49755003", "SCT", "Morphologically Abnormal Structure"),
}
_TYPES: Final = {KIDNEY: ("64033007", "SCT", "Kidney"), TUMOR: ("126880001", "SCT", "Neoplasm of kidney")}
_SEGMENTS: Final = {KIDNEY: "kidney", TUMOR: "tumor"}


def write_segmentation(
    path: str | Path, labels: LabelArray, scan: Path, *, series: str | None = None, version: str
) -> None:
    """Write labels on a CT's slices as a binary segmentation of two segments, 1 kidney and 2 tumor.

    It carries the patient and study of the CT, since it belongs to them, and a new series. Frames without a voxel are
    left out; an empty mask keeps them all, since an object without a frame is none.

    Args:
        path: a local path or a URI; whole or not at all.
        labels: (z, y, x) on the grid of the CT's slices, z in the order of `read_series`.
        scan: the CT's folder, or one of its files.
        series: number or UID where the folder holds several.
        version: of the program, which is written into the object.

    Raises:
        InputError: the scan is no CT series, or has other slices than `labels`.
    """
    import highdicom
    from pydicom.uid import generate_uid

    slices, grid = series_slices(scan, series)
    if grid.shape != labels.shape:
        raise InputError(f"{scan}: labels of {labels.shape} do not lie on slices of {grid.shape}; they need its grid")
    sources = [_header(one.path) for one in slices]
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack([labels == value for value in _SEGMENTS], axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(version),
        series_instance_uid=generate_uid(prefix=None),
        series_number=_series_number(sources),
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name="3D_FCN_PPM",
        software_versions=version,
        device_serial_number="0",
        series_description="kidney and renal tumor, research software",
        omit_empty_frames=bool(labels.any()),
    )
    content = io.BytesIO()
    segmentation.save_as(content)
    storage.write_bytes(path, content.getvalue())


def _header(path: Path) -> "Dataset":
    """Of a slice; identifiers that anonymising has emptied come from the file's own header, or are made anew.

    Those of study and series are made from the frame of reference, the same for all slices.
    """
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    dataset = dcmread(path, stop_before_pixels=True)
    dataset.SOPClassUID = dataset.get("SOPClassUID") or dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or dataset.file_meta.MediaStorageSOPInstanceUID
    for name in ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        known = [str(dataset.get("FrameOfReferenceUID") or path.parent.absolute()), name]
        setattr(dataset, name, dataset.get(name) or generate_uid(entropy_srcs=known))
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, None)
    return dataset


def _descriptions(version: str) -> list[Any]:
    import highdicom
    from highdicom.sr import CodedConcept

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME, version=version, family=CodedConcept("123109", "DCM", "Artificial Intelligence")
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=value,
            segment_label=label,
            segmented_property_category=CodedConcept(*_CATEGORIES[value]),
            segmented_property_type=CodedConcept(*_TYPES[value]),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for value, label in _SEGMENTS.items()
    ]


def _series_number(sources: Sequence["Dataset"]) -> int:
    """A number that differs from the CT's own and tells it."""
    return 1000 + int(sources[0].get("SeriesNumber") or 0) % 9000
