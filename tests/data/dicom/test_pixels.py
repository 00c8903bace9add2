"""CT numbers of a slice: each photometric interpretation, transfer syntax, depth and sign, by an independent reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
)
from support.dicom_codecs import HTJ2K_LOSSLESS, compress, decoded
from support.dicom_files import SYNTAXES, Writing, ct_slice, save

from renalnet.data.dicom.pixels import read_hounsfield
from renalnet.data.dicom.slices import Slice
from renalnet.data.images.volume import Grid

GRID = Grid((36, 40, 5), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
ALL_SYNTAXES = {**SYNTAXES, "htj2k": UID(HTJ2K_LOSSLESS)}


def described(bits: int, representation: int, photometric: str) -> Dataset:
    """Return a slice of 40×36 pixels without pixels. Signed values are CT numbers, unsigned ones are 1024 higher."""
    dataset = ct_slice(np.zeros(GRID.shape[1:], np.int16), GRID, 0, Writing())
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = representation
    dataset.PhotometricInterpretation = photometric
    dataset.RescaleIntercept = 0 if representation else -1024
    return dataset


def write(dataset: Dataset, stored: NDArray[Any], path: Path, syntax: str) -> None:
    if UID(syntax).is_encapsulated:
        compress(dataset, stored, syntax)
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        save(dataset, path, syntax)


def read(path: Path) -> NDArray[np.int16]:
    return read_hounsfield(Slice(path, GRID.shape[1:], (0.8, 0.7), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("representation", [0, 1], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", ALL_SYNTAXES.values(), ids=ALL_SYNTAXES)
def test_stored_values_are_rescaled_whatever_their_display(
    tmp_path: Path, syntax: str, bits: int, representation: int, photometric: str
) -> None:
    lowest = -(1 << (bits - 1)) if representation else 0
    ends = lowest, lowest + (1 << bits) - 1
    kind = np.int16 if representation else np.uint16
    stored = np.random.default_rng(bits).integers(*ends, GRID.shape[1:], endpoint=True).astype(kind)
    stored[0, :2] = ends
    path = tmp_path / "slice.dcm"
    write(described(bits, representation, photometric), stored, path, syntax)
    found = decoded(dcmread(path))
    np.testing.assert_array_equal(found, stored)
    expected = np.clip(found.astype(int) - (0 if representation else 1024), -1024, 32767)
    np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless], ids=["explicit", "jpeg-ls"])
def test_padding_of_monochrome1_is_a_stored_value(tmp_path: Path, syntax: str) -> None:
    """Stored 1064 is 40 HU; the padding 0 stays air, and its inverse 65535 is none."""
    stored = np.full(GRID.shape[1:], 1064, np.uint16)
    stored[0, :2] = 0, 65535
    dataset = described(16, 0, "MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "US", 0)
    write(dataset, stored, tmp_path / "slice.dcm", syntax)
    assert read(tmp_path / "slice.dcm")[0, :3].tolist() == [-1024, 32767, 40]
