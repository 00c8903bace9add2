"""What a DICOM header says of the patient stays there: no output of a command repeats it, except `predict`'s DICOM."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from support.bundles import ROI
from support.planted import PLANTED, planted_files, planted_in, write_planted_segmentation, write_planted_series

from renalnet.__main__ import main

Run = Callable[..., str]
PREPARE = ("spacing_mm=null", "localise=cut", "num_atlases=1", "test_share=0.34", "validation_share=0.5")
TRAIN = (
    "net.width=4",
    "net.ppm_kernels=[1,2]",
    "optim.batch_size=1",
    "patch.shape=[8,16,16]",
    "stitch.tile=[24,40,44]",
    "stitch.stride=[24,40,44]",
    "epochs=1",
    "steps_per_epoch=1",
    "precision=float32",
)


def settings(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


def write_case(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    kidney = np.zeros(ROI.shape, bool)
    kidney[4:20, 8:32, 8 : 36 - seed] = True
    tumor = np.zeros(ROI.shape, bool)
    tumor[10:14, 14:22, 14:22] = True
    image = np.select([tumor, kidney], [60, 180], -80) + generator.normal(0, 10, ROI.shape)
    write_planted_series(folder / "series", image.astype(np.int16), ROI)
    write_planted_segmentation(folder / "seg.dcm", {"kidney": kidney & ~tumor, "tumor": tumor}, ROI)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names what is odd about the planted values
        for number in range(3):
            write_case(tmp_path / "scans" / f"case_{number}", number)
    return tmp_path / "scans"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return all that it printed."""
    monkeypatch.setenv("RENALNET_VERBOSE", "1")

    def run(*words: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["renalnet", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, err
        return out + err

    return run


@pytest.mark.slow
def test_no_command_repeats_what_a_header_says_of_the_patient(scans: Path, tmp_path: Path, run: Run) -> None:
    assert planted_files(scans), "nothing was planted"
    outputs = tmp_path / "outputs"
    store, training, masks = outputs / "store", outputs / "run", outputs / "masks"
    series = [scans / f"case_{number}" / "series" for number in range(3)]
    said = [
        run("prepare", scans, "--out", store, "--workers", "1", *settings(*PREPARE)),
        run("store", "verify", store),
        run("store", "describe", store),
        run("train", store, "--out", training, "--preset", "quick", *settings(*TRAIN)),
        run("predict", scans, "--model", training, "--out", masks, "--format", "dicom-seg,rtstruct,stl"),
        run("plan", masks, "--out", outputs / "plan.json"),
        run("evaluate", "--truth", masks, "--pred", masks, "--out", outputs / "measures.json", "--workers", "1"),
    ]
    # A scan that is refused is named by its path alone.
    for path in series[1].iterdir():
        dataset = dcmread(path)
        dataset.Modality = "MR"
        dataset.save_as(path)
    said.append(run("predict", series[1], "--model", training, "--out", outputs / "refused", code=2))
    said.append(run("prepare", scans, "--out", outputs / "none", "--workers", "1", *settings(*PREPARE), code=2))
    assert [planted_in(text) for text in said] == [[]] * len(said), said
    found = planted_files(outputs)
    assert found and all(name.startswith("masks/") and name.endswith(".dcm") for name in found), found
    assert {dcmread(path).PatientID for path in masks.glob("*.dcm")} == {PLANTED["PatientID"]}
