"""Conversion of the pixels of a DICOM slice to CT numbers.

pydicom decodes uncompressed, deflated and RLE pixels and checks their length. GDCM, through SimpleITK, decodes the
JPEG families without a further package. It gets a new file with only the compressed pixels, because it would allocate
memory for any length that a damaged file states.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.dicom.file import read_dicom
from renalnet.data.dicom.slices import Slice
from renalnet.data.images.hounsfield import AIR_HU, to_hounsfield
from renalnet.data.images.stderr import quiet_stderr
from renalnet.errors import InputError
from renalnet.types import HuArray

if TYPE_CHECKING:
    from pydicom import Dataset

_CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_ANY_UID: Final = "1.2.3"
_MAX_INTEGER_RESCALE: Final = 2**14
"""Slopes and intercepts below this limit keep rescaled 16-bit values within 32 bits."""
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
    """Return the CT numbers of a slice, int16 HU (rows, columns). Padding becomes air.

    Each slice is rescaled by its own slope and intercept, because they may differ within a series. The photometric
    interpretation does not change CT numbers: MONOCHROME1 states that the lowest value is displayed as white
    (DICOM PS3.3, C.7.6.3.1.2), and the rescaling applies to stored values (C.11.1.1.2).

    Raises:
        InputError: the file is damaged, or lacks a field that its pixels need, or its fields contradict its pixels.
    """
    numbers = read_dicom(one.path, lambda dataset: _hounsfield(one, dataset), None)
    if numbers.shape != one.shape:
        raise InputError(f"{one.path}: the size of its pixels differs from its header; copy it again")
    return numbers


def _hounsfield(one: Slice, dataset: "Dataset") -> HuArray:
    slope = float(dataset.RescaleSlope)
    intercept = float(dataset.RescaleIntercept)
    if not (np.isfinite((slope, intercept)).all() and slope != 0):
        rule = "must be finite and the slope not 0; export the series again"
        raise InputError(f"{one.path}: rescale slope {slope:g}, intercept {intercept:g} {rule}")
    is_supported = dataset.file_meta.TransferSyntaxUID in _DECODED_BY_PYDICOM
    stored: NDArray[Any] = dataset.pixel_array if is_supported else _decode_with_gdcm(dataset)
    numbers = to_hounsfield(_rescaled(stored, slope, intercept), one.path)
    # The header states padding in stored values, not in CT numbers.
    if "PixelPaddingValue" in dataset:
        first, last = _padding(dataset)
        numbers[(stored >= first) & (stored <= last)] = AIR_HU
    return numbers


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Return stored values as CT numbers, in int32 if slope and intercept are integers, which is faster."""
    is_whole = slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2
    if is_whole and max(abs(slope), abs(intercept)) < _MAX_INTEGER_RESCALE:
        return stored.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    return stored.astype(np.float64) * slope + intercept


def _padding(dataset: "Dataset") -> tuple[int, int]:
    """Return the first and the last stored value that are padding."""
    ends = [int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))]
    # Some scanners write the values as unsigned numbers although the pixels are signed (two's complement).
    if dataset.PixelRepresentation == 1:
        bits = int(dataset.BitsAllocated)
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    return min(ends), max(ends)


def _decode_with_gdcm(dataset: "Dataset") -> NDArray[Any]:
    """Return the stored values of a slice that is compressed by a codec of the JPEG families."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with TemporaryDirectory() as folder, quiet_stderr():
        path = Path(folder, "slice.dcm")
        _pixel_dataset(dataset).save_as(path, enforce_file_format=True)
        reader.SetFileName(str(path))
        image: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return image[0] if image.ndim == 3 else image


def _pixel_dataset(dataset: "Dataset") -> "Dataset":
    """Return a dataset with only the compressed pixels and the fields that their decoder needs.

    It contains no rescale slope and intercept, so that GDCM returns stored values.
    """
    from pydicom import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate, get_frame

    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.SOPClassUID = _CT_IMAGE
    alone.SOPInstanceUID = _ANY_UID
    for name in _PIXEL_FIELDS:
        setattr(alone, name, dataset[name].value)
    if alone.PhotometricInterpretation == "MONOCHROME1":
        # GDCM would return -1 - v for a stored value v. In a CT, the field changes the display alone.
        alone.PhotometricInterpretation = "MONOCHROME2"
    alone.PixelData = encapsulate([get_frame(dataset.PixelData, 0, number_of_frames=1)])
    # DICOM requires an undefined length for encapsulated pixels.
    alone["PixelData"].is_undefined_length = True
    return alone
