"""Encoders and decoders of DICOM's compressed pixels, by imagecodecs: another program than the readers under test."""

from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

HTJ2K_LOSSLESS: Final = "1.2.840.10008.1.2.4.201"


def compress(dataset: Dataset, stored: NDArray[Any], syntax: str) -> None:
    """Set the pixels of a dataset to the stored values, compressed by a transfer syntax."""
    dataset.file_meta = FileMetaDataset()
    if syntax == RLELossless:
        # imagecodecs only decodes it.
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, np.ascontiguousarray(stored), generate_instance_uid=False)
        return
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([_encoded(stored, dataset.BitsStored, syntax)])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


def decoded(dataset: Dataset) -> NDArray[Any]:
    """Return the stored values of a dataset, int16 or uint16 (rows, columns)."""
    is_signed = dataset.PixelRepresentation == 1
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        order = "<" if syntax.is_little_endian else ">"
        native = np.frombuffer(dataset.PixelData, f"{order}{'i' if is_signed else 'u'}2")
        return native.astype(native.dtype.newbyteorder("=")).reshape(dataset.Rows, dataset.Columns)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    found = np.asarray(_DECODERS[syntax](frame)).reshape(dataset.Rows, dataset.Columns)
    return _signed(found, dataset.BitsStored) if is_signed else found


def _encoded(stored: NDArray[Any], bits: int, syntax: str) -> bytes:
    if syntax == JPEG2000Lossless:
        return imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", reversible=True, bitspersample=bits)
    if syntax == HTJ2K_LOSSLESS:
        return imagecodecs.htj2k_encode(stored, reversible=True)
    # These codecs know no sign, so DICOM gives them the bits of the numbers in two's complement.
    unsigned = stored.astype(np.uint16) & np.uint16((1 << bits) - 1)
    if syntax == JPEGLosslessSV1:
        return imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=1, bitspersample=bits)
    return imagecodecs.jpegls_encode(unsigned)


def _decoded_rle(frame: bytes) -> NDArray[np.uint16]:
    """Return the numbers of a frame: a header of 64 bytes, then the high and the low bytes (DICOM PS3.5, annex G)."""
    _, high, low = np.frombuffer(frame, "<u4", 3)
    size = len(imagecodecs.packbits_decode(frame[high:low]))
    planes = [np.frombuffer(imagecodecs.packbits_decode(part), np.uint8) for part in (frame[high:low], frame[low:])]
    return planes[0].astype(np.uint16) << 8 | planes[1][:size]


def _signed(found: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return numbers of `bits` bits in two's complement with their sign."""
    unused = 16 - bits
    return (found.astype(np.uint16) << unused).view(np.int16) >> unused


_DECODERS: Final = {
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    HTJ2K_LOSSLESS: imagecodecs.htj2k_decode,
    JPEGLosslessSV1: imagecodecs.ljpeg_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    RLELossless: _decoded_rle,
}
