"""Writer of DICOM segmentation objects. They refer to the slices of their CT, so that a PACS files them with it."""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np

from renalnet.config import Label, LabelSet
from renalnet.config.labels import Code
from renalnet.data.dicom.source_series import NAME, SourceSeries, refusals_reported
from renalnet.runtime import storage
from renalnet.types import LabelArray

_MAX_TEXT: Final = 64
"""Most characters of a description (VR LO)."""


def write_segmentation(
    path: str | Path, values: LabelArray, source: SourceSeries, *, labels: LabelSet, version: str
) -> None:
    """Write labels on a CT's slices as a binary segmentation with a segment for each label, numbered by its value.

    The object gets the patient and the study of the CT, and a new series. Empty frames are left out. An empty mask
    keeps all of them, because an object must have a frame.

    Args:
        path: local path or URI. It is written completely or not at all.
        values: uint8 (z, y, x) on the grid of the CT's slices, with z in the order of `read_series`.
        source: slices of the CT.
        labels: meaning of the values, with the codes and the colors of the segments.
        version: version of the program, which the object records.

    Raises:
        InputError: the slices do not match `values`, or highdicom refuses them.
    """
    source.require_shape(values.shape)
    content = io.BytesIO()
    with refusals_reported(source, "DICOM segmentation"):
        _segmentation(source, values, labels, version).save_as(content)
    storage.write_bytes(path, content.getvalue())


def _segmentation(source: SourceSeries, values: LabelArray, labels: LabelSet, version: str) -> Any:
    import highdicom
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=source.headers,
        pixel_array=np.stack([values == label.value for label in labels.labels], axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(labels, version),
        # Without a prefix, a UID is derived from a random UUID (root 2.25) and needs no registered organisation.
        series_instance_uid=generate_uid(prefix=None),
        series_number=source.series_number,
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
        display_color=highdicom.color.CIELabColor.from_rgb(*label.rgb),
    )


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
