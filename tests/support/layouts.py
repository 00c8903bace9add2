"""Painted scans in layouts other than that of the phantom: nnU-Net's, and a DICOM folder for each patient."""

import sys
from pathlib import Path
from typing import Final

from renalnet.config import KIDNEY_TUMOR, PhantomConfig
from renalnet.data.images.volume import write_volume
from renalnet.data.phantom.painter import PaintedCase, paint_abdomen
from support import commands
from support.dicom_files import Writing, write_segmentation, write_series

PHANTOM: Final = PhantomConfig(num_cases=6, seed=1, shape=(60, 110, 110), spacing_mm=(4.8, 3.2, 3.2), contrast="narrow")
FLAT: Final = ("flat_0", "flat_1", "flat_2")
"""Cases of the folder `flat`."""
SERIES: Final = ("series_0", "series_1", "series_2")
"""Patients of the folder `dicom`."""


def add_layouts(folder: Path) -> None:
    """Write `flat` and `dicom` into a folder, and add their cases to its store."""
    for number, (flat, series) in enumerate(zip(FLAT, SERIES, strict=True)):
        write_flat(folder / "flat", flat, paint_abdomen(PHANTOM, 2 * number))
        write_dicom(folder / "dicom", series, paint_abdomen(PHANTOM, 2 * number + 1), number)
    for source in ("flat", "dicom"):
        run_in(folder, "renalnet", "prepare", source, "--out", "store")


def write_flat(folder: Path, name: str, case: PaintedCase) -> None:
    """Write one folder of images and one of label maps."""
    for kind, volume in (("imagesTr", case.image), ("labelsTr", case.label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(folder / kind / f"{name}.nii.gz", volume)


def write_dicom(folder: Path, name: str, case: PaintedCase, number: int) -> None:
    """Write a folder for a patient: the slices with a DICOM-SEG, or the first patient's with a NIfTI label map."""
    grid, values = case.image.grid, case.label.array
    write_series(folder / name / "series", case.image.array, grid, Writing(uid=f"1.2.3.{number}"), PatientID=name)
    if number:
        masks = {label.name: values == label.value for label in KIDNEY_TUMOR.labels}
        write_segmentation(folder / name / "segmentation.dcm", masks, grid)
    else:
        write_volume(folder / name / "label.nii.gz", case.label)


def run_in(folder: Path, *words: str) -> str:
    """Return what a command prints in a folder. It must succeed."""
    done = commands.run([sys.executable, "-m", *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
