"""DICOM files that are written from arrays: CT series in any transfer syntax, and segmentations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from renalnet.data.images.volume import Grid

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-lossless": JPEGLosslessSV1,
}
"""Transfer syntaxes of CT slices by a short name."""

STUDY = "1.2.3.4"
INTERCEPT = -1024


@dataclass(frozen=True)
class Writing:
    """Options of a series."""

    syntax: str = ExplicitVRLittleEndian
    """Transfer syntax."""
    number: int = 1
    """Series number."""
    uid: str = "1.2.3.4.1"
    """Series instance UID."""
    slope: float = 1.0
    """Rescale slope; the intercept is `INTERCEPT`."""
    suffix: str = ".dcm"
    """Suffix of the files' names."""


def write_series(
    folder: Path, hounsfield: NDArray[np.int16], grid: Grid, writing: Writing = Writing(), **changes: Any
) -> list[Path]:
    """Write the slices of a volume; return the files, whose names are not in the order of the slices.

    `changes` replace header fields of all slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, plane in enumerate(hounsfield):
        dataset = ct_slice(plane, grid, index, writing)
        for name, value in changes.items():
            setattr(dataset, name, value)
        path = folder / f"{(index * 7) % len(hounsfield):03d}-{writing.number}{writing.suffix}"
        save(dataset, path, writing.syntax)
        paths.append(path)
    return paths


def ct_slice(plane: NDArray[np.int16], grid: Grid, index: int, writing: Writing) -> Dataset:
    axes = np.array(grid.direction).reshape(3, 3)
    position = np.array(grid.origin_xyz_mm) + axes[:, 2] * index * grid.spacing_xyz_mm[2]
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{writing.uid}.{index + 1}"
    dataset.PatientName = "Secret^Name"
    dataset.PatientID = "secret-id"
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = writing.uid
    dataset.SeriesNumber = writing.number
    dataset.InstanceNumber = index + 1
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [round(float(value), 9) for value in position]
    dataset.ImageOrientationPatient = [round(float(value), 9) for value in [*axes[:, 0], *axes[:, 1]]]
    dataset.PixelSpacing = [grid.spacing_xyz_mm[1], grid.spacing_xyz_mm[0]]
    dataset.SliceThickness = 9.0  # differs from the distance of the slices, because readers must not use it
    dataset.RescaleSlope = writing.slope
    dataset.RescaleIntercept = INTERCEPT
    describe_pixels(dataset, np.rint((plane.astype(np.float64) - INTERCEPT) / writing.slope).astype(np.uint16))
    return dataset


def describe_pixels(dataset: Dataset, stored: NDArray[np.uint16]) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax in (RLELossless, JPEGLSLossless):
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax in (JPEG2000Lossless, JPEGLosslessSV1):
        dataset.PixelData = encapsulate([_encoded_by_gdcm(dataset, path, syntax)])
        dataset["PixelData"].is_undefined_length = True
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
    is_little = syntax != ExplicitVRBigEndian
    dataset.save_as(
        path, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=is_little
    )


def _encoded_by_gdcm(dataset: Dataset, path: Path, syntax: str) -> bytes:
    """Encode by GDCM, a part of SimpleITK, because pydicom has no encoder for this syntax."""
    stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000" if syntax == JPEG2000Lossless else "JPEG")
    temporary = path.with_name("encoded.tmp.dcm")
    writer.SetFileName(str(temporary))
    writer.Execute(sitk.GetImageFromArray(stored))
    encoded = dcmread(temporary)
    temporary.unlink()
    assert encoded.file_meta.TransferSyntaxUID == syntax
    return get_frame(encoded.PixelData, 0, number_of_frames=1)


def write_segmentation(
    path: Path, masks: dict[str, NDArray[np.bool_]], grid: Grid, order: Sequence[int] | None = None
) -> None:
    """Write a binary DICOM-SEG of named masks (z, y, x), without empty frames and in the given order of frames."""
    axes = np.array(grid.direction).reshape(3, 3)
    frames = [
        (number, index)
        for number, mask in enumerate(masks.values(), start=1)
        for index in range(len(mask))
        if mask[index].any()
    ]
    frames = [frames[position] for position in order] if order else frames
    dataset = Dataset()
    dataset.SOPClassUID = SegmentationStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "SEG"
    dataset.SeriesInstanceUID = "1.2.3.4.9"
    dataset.SegmentationType = "BINARY"
    dataset.PatientName = "Secret^Name"
    dataset.SegmentSequence = Items([_segment(number, name) for number, name in enumerate(masks, start=1)])
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = [grid.spacing_xyz_mm[1], grid.spacing_xyz_mm[0]]
    shared.PlaneOrientationSequence = Items([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [float(v) for v in [*axes[:, 0], *axes[:, 1]]]
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items([_frame(*frame, grid) for frame in frames])
    planes = np.array([list(masks.values())[number - 1][index] for number, index in frames], bool)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = planes.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 1
    dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.PixelRepresentation = 0
    bits = np.packbits(planes.ravel(), bitorder="little").tobytes()
    dataset.PixelData = bits + b"\0" * (len(bits) % 2)
    dataset["PixelData"].VR = "OB"
    save(dataset, path)


def _segment(number: int, name: str) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber = number
    segment.SegmentLabel = name
    return segment


def _frame(number: int, index: int, grid: Grid) -> Dataset:
    axes = np.array(grid.direction).reshape(3, 3)
    frame = Dataset()
    place = Dataset()
    identity = Dataset()
    position = np.array(grid.origin_xyz_mm) + axes[:, 2] * index * grid.spacing_xyz_mm[2]
    place.ImagePositionPatient = [round(float(value), 9) for value in position]
    identity.ReferencedSegmentNumber = number
    frame.PlanePositionSequence = Items([place])
    frame.SegmentIdentificationSequence = Items([identity])
    return frame
