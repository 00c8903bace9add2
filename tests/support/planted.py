"""DICOM series with planted values that tell who a patient is, and where such values turn up."""

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydicom import dcmread

from renalnet.data.images.volume import Grid
from support.dicom_files import write_segmentation, write_series

PLANTED: Final = {
    "PatientName": "Plantedname^Plantedgiven",
    "PatientID": "planted-id-4711",
    "OtherPatientNames": "Plantedmaiden",
    "PatientBirthDate": "19010203",
    "PatientAddress": "Plantedstreet 5",
    "PatientComments": "planted comment of the patient",
    "AccessionNumber": "PLANTED0815",
    "ReferringPhysicianName": "Plantedphysician",
    "OperatorsName": "Plantedoperator",
    "InstitutionName": "Plantedhospital",
    "StationName": "plantedstation",
    "StudyID": "plantedstudy",
    "StudyDate": "19110405",
    "StudyDescription": "planted description of the study",
    "SeriesDescription": "planted description of the series",
    "ProtocolName": "planted protocol",
    "ImageComments": "planted comment of the image",
    "AdmissionID": "plantedadmission",
}
"""Values of header fields, by keyword."""
WORDS: Final = ("planted", "19010203", "19110405")
"""Words of which each planted value has one, in small letters."""
PRIVATE_GROUP: Final = 0x0099


def write_planted_series(folder: Path, hounsfield: NDArray[np.int16], grid: Grid) -> None:
    """Write a CT series whose headers hold all planted values, one of them in a private field."""
    for path in write_series(folder, hounsfield, grid, **PLANTED):
        _plant_private(path)


def write_planted_segmentation(path: Path, masks: dict[str, NDArray[np.bool_]], grid: Grid) -> None:
    """Write a DICOM segmentation whose header holds all planted values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_segmentation(path, masks, grid)
    dataset = dcmread(path)
    for name, value in PLANTED.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    _plant_private(path)


def _plant_private(path: Path) -> None:
    dataset = dcmread(path)
    dataset.private_block(PRIVATE_GROUP, "planted creator", create=True).add_new(1, "LO", "planted private value")
    dataset.save_as(path)


def planted_in(text: str | bytes) -> list[str]:
    """Return the planted words in a text."""
    content = (text.encode() if isinstance(text, str) else text).lower()
    return [word for word in WORDS if word.encode() in content]


def planted_files(folder: Path) -> dict[str, list[str]]:
    """Return the planted words in each file below a folder that has some, with names of files and packed content."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        words = {word for content in (name.encode(), *_contents(path)) for word in planted_in(content)}
        if words:
            found[name] = sorted(words)
    return found


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if path.suffix == ".gz":
        yield gzip.decompress(content)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield f"{table.schema.metadata} {table.to_pylist()}".encode()
