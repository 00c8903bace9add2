"""The pixels of a DICOM slice as CT numbers.

pydicom decodes uncompressed, deflated and RLE pixels and checks their length; the JPEG families are decoded by GDCM,
through SimpleITK, which needs no further package. GDCM sees the compressed pixels alone, in a file written for it: of
a damaged file it would believe any length that it states, and take the memory.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.dicom.file import parsed
from renalnet.data.dicom.slices import Slice
from renalnet.data.images.hounsfield import AIR_HU, to_hounsfield
from renalnet.data.images.quiet import quiet_stderr
from renalnet.errors import InputError
from renalnet.types import HuArray

if TYPE_CHECKING:
    from pydicom import Dataset

_CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_ANY_UID: Final = "1.2.3"
_LARGE: Final = 2**14
"""Slopes and intercepts below this keep 16 stored bits within 32."""
_PIXEL_FIELDS: Final = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_DECODED_BY_PYDICOM: Final = frozenset(
    (
        "1.2.840.10008.1.2",  # implicit little endian
        "1.2.840.10008.1.2.1",  # explicit little endian
        "1.2.840.10008.1.2.1.99",  # deflated
        "1.2.840.10008.1.2.2",  # explicit big endian
        "1.2.840.10008.1.2.5",  # RLE
    )
)


def read_hounsfield(one: Slice) -> HuArray:
    """The CT numbers (rows, columns) of a slice, its own slope and intercept applied; padding becomes air.

    Raises:
        InputError: the file is damaged, or lacks or contradicts what its pixels mean.
    """
    numbers = parsed(one.path, lambda dataset: _hounsfield(one, dataset), None)
    if numbers.shape != one.shape:
        raise InputError(f"{one.path}: pixels of another size than its header says; copy it again")
    return numbers


def _hounsfield(one: Slice, dataset: "Dataset") -> HuArray:
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if not (np.isfinite((slope, intercept)).all() and slope != 0):
        raise InputError(f"{one.path}: rescale slope {slope:g}, intercept {intercept:g}; export the series again")
    is_plain = dataset.file_meta.TransferSyntaxUID in _DECODED_BY_PYDICOM
    stored: NDArray[Any] = dataset.pixel_array if is_plain else _decoded_by_gdcm(dataset)
    numbers = to_hounsfield(_rescaled(stored, slope, intercept), one.path)
    if "PixelPaddingValue" in dataset:
        first, last = _padding(dataset)
        numbers[(stored >= first) & (stored <= last)] = AIR_HU
    return numbers


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """In whole numbers where they are, as nearly always: it is quicker."""
    is_whole = slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2
    if is_whole and max(abs(slope), abs(intercept)) < _LARGE:
        return stored.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    return stored.astype(np.float64) * slope + intercept


def _padding(dataset: "Dataset") -> tuple[int, int]:
    """The range of stored values that is padding; written unsigned by some scanners whose pixels are signed."""
    ends = [int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))]
    if dataset.PixelRepresentation == 1:
        bits = int(dataset.BitsAllocated)
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    return min(ends), max(ends)


def _decoded_by_gdcm(dataset: "Dataset") -> NDArray[Any]:
    """The stored values of a slice of the JPEG families."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with TemporaryDirectory() as folder, quiet_stderr():
        path = Path(folder, "slice.dcm")
        _pixels_alone(dataset).save_as(path, enforce_file_format=True)
        reader.SetFileName(str(path))
        image: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return image[0] if image.ndim == 3 else image


def _pixels_alone(dataset: "Dataset") -> "Dataset":
    from pydicom import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate, get_frame

    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.SOPClassUID, alone.SOPInstanceUID = _CT_IMAGE, _ANY_UID
    for name in _PIXEL_FIELDS:
        setattr(alone, name, dataset[name].value)
    alone.PixelData = encapsulate([get_frame(dataset.PixelData, 0, number_of_frames=1)])
    alone["PixelData"].is_undefined_length = True
    return alone
