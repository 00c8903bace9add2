"""One folder with every odd scan of archives and programs: masks of the good ones, and a line for each bad one."""

import gzip
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless
from support import commands
from support.bundles import ROI, make_bundle
from support.dicom_files import Writing, write_series

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.images.volume import Volume, grid_difference, read_volume, write_volume
from renalnet.runtime import storage

HU = np.random.default_rng(0).integers(-200, 400, ROI.shape).astype(np.int16)
NAME = "EXAMPLENAME"
MONOCHROME1 = {"jpeg-ls": JPEGLSLossless, "jpeg-2000": JPEG2000Lossless, "jpeg-lossless": JPEGLosslessSV1}
NAMES = {"one-word": NAME, "seven-parts": f"{NAME}^a^b^c^d^e^f", "long": NAME * 7, "four-groups": f"{NAME}=a=b=c"}
BAD = {
    "content.dcm": "has the ending of DICOM but not its content",
    "cut.nii.gz": "cut.nii.gz",
    "magnetic": "images of modality MR",
    "phases": "holds 2 phases in one series",
    "text": "notes.dcm: has the ending of DICOM but not its content",
}
"""Files and folders of the scans that cannot be read, with words of their errors."""

Edit = Callable[[Dataset, int], None]
"""Changes the header of a slice, given its number from the feet."""


def written(folder: Path, edit: Edit | None = None, writing: Writing | None = None, **changes: Any) -> list[Path]:
    paths = write_series(
        folder, HU, ROI, writing or Writing(), **{"PatientName": NAME, "SliceThickness": 3.0, **changes}
    )
    for number, path in enumerate(paths if edit else []):
        dataset = dcmread(path)
        edit(dataset, number)
        dataset.save_as(path)
    return paths


def without_thickness(dataset: Dataset, number: int) -> None:
    del dataset.SliceThickness


def turned(dataset: Dataset, number: int) -> None:
    dataset.ImageOrientationPatient = [1, number * 1e-6, 0, -number * 1e-6, 1, 0]


def own_study(dataset: Dataset, number: int) -> None:
    dataset.StudyInstanceUID = f"1.2.3.{number}"


def own_frame(dataset: Dataset, number: int) -> None:
    dataset.FrameOfReferenceUID = f"1.2.3.{number}"


def without_number(dataset: Dataset, number: int) -> None:
    if number > 20:
        del dataset.SeriesNumber


EDITS: dict[str, Edit] = {
    "thickness": without_thickness,
    "turned": turned,
    "studies": own_study,
    "frames": own_frame,
    "numbers": without_number,
}


def write_bare(folder: Path) -> None:
    for path in written(folder):
        Dataset({element.tag: element for element in dcmread(path)}).save_as(path, implicit_vr=True, little_endian=True)


def write_with_scout(folder: Path) -> None:
    first, *_ = written(folder, ImageType=None)
    scout = dcmread(first)
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.SOPInstanceUID = "1.2.3.4.1.999"
    scout.save_as(folder / "scout.dcm")


def write_two_phases(folder: Path) -> None:
    for phase in (1, 2):
        writing = Writing(uid=f"1.2.3.4.{phase}", suffix=f"-{phase}.dcm")
        written(folder, writing=writing, SeriesInstanceUID="1.2.3.4.1", AcquisitionNumber=phase)


def write_sheared(path: Path) -> None:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    affine[0, 2] = 1e-4 * 3.0
    nibabel.save(nibabel.Nifti1Image(HU.T, affine), path)


def write_bad(folder: Path) -> None:
    write_two_phases(folder / "phases")
    written(folder / "magnetic", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    content = (folder / "sheared.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (folder / "content.dcm").write_text(f"{NAME}, no DICOM")
    (folder / "text").mkdir()
    (folder / "text" / "notes.dcm").write_bytes(b"")


def write_all(folder: Path, elsewhere: Path) -> set[str]:
    """Write the scans; return the names of the masks of the good ones."""
    folder.mkdir()
    for name, edit in EDITS.items():
        written(folder / name, edit)
    for name, syntax in MONOCHROME1.items():
        written(folder / name, writing=Writing(syntax=syntax), PhotometricInterpretation="MONOCHROME1")
    for name, text in NAMES.items():
        written(folder / name, PatientName=text)
    written(folder / "plain")
    write_bare(folder / "bare")
    write_with_scout(folder / "scout")
    written(elsewhere / "series")
    (folder / "link").mkdir()
    (folder / "link" / "ct").symlink_to(elsewhere / "series")
    write_volume(folder / "file.nrrd", Volume(HU, replace(ROI, origin_xyz_mm=(5.0, 6.0, 7.0))))
    write_sheared(folder / "sheared.nii.gz")
    good = {path.name.partition(".")[0] for path in folder.iterdir()}
    write_bad(folder)
    return good


@dataclass(frozen=True)
class Folder:
    """The folder, its good scans, and a model for it."""

    scans: Path
    good: set[str]
    bundle: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    place = tmp_path_factory.mktemp("odd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names the odd values that are written here
        good = write_all(place / "scans", place / "elsewhere")
    return Folder(place / "scans", good, make_bundle(place / "bundle", []))


def run(module: str, folder: Folder, out: Path) -> subprocess.CompletedProcess[str]:
    words = [str(folder.scans), "--model", folder.bundle, "--out", str(out)]
    return commands.run([sys.executable, "-m", *module.split(), *words], timeout=1800)


def check(folder: Folder, done: subprocess.CompletedProcess[str], out: Path) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == len(BAD), errors
    for name, words in BAD.items():
        (line,) = [line for line in errors if f"{folder.scans}/{name}" in line]
        assert words in line
    said = done.stdout + done.stderr
    assert NAME not in said and "Traceback" not in said
    lines = [line.partition(".nii.gz: kidney ")[0] for line in done.stdout.splitlines()]
    assert sorted(lines) == sorted(str(out / name) for name in folder.good)
    check_masks(folder, out)


def check_masks(folder: Folder, out: Path) -> None:
    """All masks are that of the plain series; those of a series have a DICOM segmentation with the same voxels."""
    expected = read_volume(out / "plain.nii.gz").array
    assert expected.any() and expected.shape == ROI.shape
    for name in folder.good:
        mask = read_volume(out / f"{name}.nii.gz")
        np.testing.assert_array_equal(mask.array, expected, name)
        assert storage.read_json(out / f"{name}.json")["volume_ml"]["kidney"] > 0
        is_series = (folder.scans / name).is_dir()
        assert (out / f"{name}.dcm").exists() == is_series
        if is_series:
            assert grid_difference(mask.grid, ROI, direction_error=3e-5) is None
            same = read_segmentation(out / f"{name}.dcm", mask.grid, KIDNEY_TUMOR, {})
            np.testing.assert_array_equal(same, expected, name)
    assert {path.name.partition(".")[0] for path in out.iterdir()} == folder.good
    # Only the DICOM segmentations hold the name of the patient.
    assert not [path for path in out.iterdir() if path.suffix != ".dcm" and NAME.encode() in content_of(path)]


def content_of(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


@pytest.mark.slow
def test_every_odd_scan_of_one_folder(folder: Folder, tmp_path: Path) -> None:
    assert len(folder.good) == 18
    check(folder, run("renalnet predict", folder, tmp_path), tmp_path)


@pytest.mark.slow
def test_every_odd_scan_over_a_cluster(folder: Folder, tmp_path: Path) -> None:
    check(folder, run("study.predict", folder, tmp_path), tmp_path)
