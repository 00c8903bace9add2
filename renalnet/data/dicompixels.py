"""The pixels of a DICOM slice as CT numbers.

pydicom decodes uncompressed, deflated and RLE pixels and checks their length; the JPEG families are decoded by GDCM,
through SimpleITK, which needs no further package.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.dicomfile import parsed
from renalnet.data.hounsfield import AIR_HU, to_hounsfield
from renalnet.data.slices import Slice
from renalnet.errors import InputError
from renalnet.types import HuArray

if TYPE_CHECKING:
    from pydicom import Dataset

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
    """The CT numbers of a slice, its own slope and intercept applied; padding becomes air."""
    values, padding = parsed(one.path, lambda dataset: _decoded(one, dataset), None)
    if values.shape != one.shape:
        raise InputError(f"{one.path}: pixels of another size than its header says; copy it again")
    numbers = to_hounsfield(values, one.path)
    if padding:
        numbers = np.where((values >= padding[0]) & (values <= padding[1]), np.int16(AIR_HU), numbers)
    return numbers


def _decoded(one: Slice, dataset: "Dataset") -> tuple[NDArray[Any], tuple[float, float] | None]:
    """CT numbers, and the range of them that stands for padding."""
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if not (np.isfinite((slope, intercept)).all() and slope != 0):
        raise InputError(f"{one.path}: rescale slope {slope:g}, intercept {intercept:g}; export the series again")
    padding = _padding(dataset)
    limits = sorted(np.float32(value * slope + intercept) for value in padding) if padding else None
    if dataset.file_meta.TransferSyntaxUID in _DECODED_BY_PYDICOM:
        values = dataset.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    else:
        values = _decoded_by_gdcm(one.path)
    return values, (float(limits[0]), float(limits[1])) if limits else None


def _padding(dataset: "Dataset") -> tuple[int, int] | None:
    """The range of stored values that is padding; written unsigned by some scanners whose pixels are signed."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    if dataset.PixelRepresentation == 1:
        bits = int(dataset.BitsAllocated)
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    return min(ends), max(ends)


def _decoded_by_gdcm(path: Path) -> NDArray[Any]:
    """The slice with slope and intercept applied."""
    import SimpleITK as sitk

    sitk.ProcessObject.GlobalWarningDisplayOff()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    image: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return image[0] if image.ndim == 3 else image
