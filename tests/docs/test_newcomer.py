"""A newcomer's own scans in three layouts, from raw files to masks and planning sheets, in a clone of the project.

The workspace has six scans in folders as in KiTS, their store, and a study of it. Six more are in other layouts.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support import commands
from support.commands import ROOT
from support.dicom_files import Writing, write_segmentation, write_series
from support.documents import SHORT

from cluster.upload import check_upload, packed_sizes
from renalnet.config import KIDNEY_TUMOR, PhantomConfig
from renalnet.data.cases.loading import load_scan
from renalnet.data.images.volume import write_volume
from renalnet.data.phantom.painter import PaintedCase, paint_abdomen
from renalnet.data.store.reader import open_store
from renalnet.nets.bundle import MODEL_FILE
from renalnet.prediction.predictor import load_predictor
from renalnet.prediction.provenance import scan_digest

pytestmark = pytest.mark.slow
PHANTOM = PhantomConfig(num_cases=6, seed=1, shape=(60, 110, 110), spacing_mm=(4.8, 3.2, 3.2), contrast="narrow")
FLAT = ("flat_0", "flat_1", "flat_2")
SERIES = ("series_0", "series_1", "series_2")
OF_PATIENTS = ("cohort", "flat", "dicom", "store", "masks", "masks-mine", "masks-own", "results")
"""Folders of a clone with files that show patients."""


def write_flat(folder: Path, name: str, case: PaintedCase) -> None:
    """One folder of images and one of label maps."""
    for kind, volume in (("imagesTr", case.image), ("labelsTr", case.label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(folder / kind / f"{name}.nii.gz", volume)


def write_dicom(folder: Path, name: str, case: PaintedCase, number: int) -> None:
    """A folder for each patient: the slices with a DICOM-SEG, or with a NIfTI label map."""
    grid, values = case.image.grid, case.label.array
    write_series(folder / name / "series", case.image.array, grid, Writing(uid=f"1.2.3.{number}"), PatientID=name)
    if number:
        masks = {label.name: values == label.value for label in KIDNEY_TUMOR.labels}
        write_segmentation(folder / name / "segmentation.dcm", masks, grid)
    else:
        write_volume(folder / name / "label.nii.gz", case.label)


def run(folder: Path, *words: str) -> str:
    """Return what a command prints in the clone. It must succeed."""
    done = commands.run([sys.executable, "-m", *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the project's ignored names, in which all of the newcomer's commands have been run."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    shutil.copytree(workspace, folder)
    shutil.copy(ROOT / ".gitignore", folder)
    for number, (flat, series) in enumerate(zip(FLAT, SERIES, strict=True)):
        write_flat(folder / "flat", flat, paint_abdomen(PHANTOM, 2 * number))
        write_dicom(folder / "dicom", series, paint_abdomen(PHANTOM, 2 * number + 1), number)
    for source in ("flat", "dicom"):
        run(folder, "renalnet", "prepare", source, "--out", "store")
    scans = [f"flat/imagesTr/{FLAT[0]}.nii.gz", f"dicom/{SERIES[1]}/series"]
    run(folder, "renalnet", "predict", *scans, "--model", "results/mine/best", "--out", "masks-own")
    run(folder, "renalnet", "plan", "masks-own", "--out", "masks-own/plan.json")
    yield folder
    shutil.rmtree(folder)


def provenance_of(clone: Path) -> list[dict[str, Any]]:
    outputs = [json.loads(path.read_text()) for path in sorted((clone / "masks-own").glob("*.json"))]
    return [each["provenance"] for each in outputs if "provenance" in each]


def test_scans_of_all_layouts_are_in_one_store(clone: Path, workspace: Path) -> None:
    before, now = open_store(workspace / "store"), open_store(clone / "store")
    old, new = set(before.cases()), set(now.cases())
    assert old < new
    scans = {case.rpartition("-")[0] or case for case in new - old}
    assert {name for name in (*FLAT, *SERIES) if any(name in scan for scan in scans)} == {*FLAT, *SERIES}
    assert all(before.entry(case).split == now.entry(case).split for case in old)
    now.verify()


def test_each_mask_states_where_it_comes_from(clone: Path) -> None:
    found = provenance_of(clone)
    assert len(found) == 2
    predictor = load_predictor(clone / "results" / "mine" / "best")
    for each in found:
        image, _ = load_scan(Path(each["scan"]))
        assert Path(each["scan"]).is_relative_to(clone)
        assert each["scan_sha256"] == scan_digest(image.array)
        assert each["model"] == "results/mine/best" or Path(each["model"]) == clone / "results" / "mine" / "best"
        assert each["model_sha256"] == list(predictor.model.sha256) and each["model_sha256"]
        assert each["renalnet"] == version("renalnet")
        assert each["inference"] == predictor.inference.model_dump(mode="json")


def test_planning_sheets_name_their_masks(clone: Path) -> None:
    rows = json.loads((clone / "masks-own" / "plan.json").read_text())["sheets"]
    assert rows and {Path(row["mask"]).parent.name for row in rows} == {"masks-own"}


def test_the_study_states_its_data_and_configuration(clone: Path) -> None:
    manifest = json.loads((clone / "results" / "mine" / "manifest.json").read_text())
    assert manifest["data"]["fingerprint"] and manifest["config_fingerprint"]
    assert manifest["config"]["train"]["epochs"] == SHORT["train"]["epochs"]
    assert manifest["versions"]["renalnet"] == version("renalnet")
    assert (clone / "results" / "mine" / "best" / MODEL_FILE).exists()
    assert "Table I" in (clone / "results" / "mine" / "report.html").read_text(encoding="utf-8")


def test_git_shows_no_file_of_a_patient(clone: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git = ["git", f"--git-dir={tmp_path / 'git'}", f"--work-tree={clone}"]
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run([*git, *words], cwd=clone, env=environment, check=True, capture_output=True)
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all"],
        cwd=clone,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    shown = [line[3:] for line in status.stdout.splitlines()]
    assert ".gitignore" in shown
    assert [name for name in shown if name.split("/")[0] in OF_PATIENTS] == []


def test_a_job_uploads_no_file_of_a_patient(clone: Path) -> None:
    left_out = set(check_upload(clone).left_out)
    uploaded = [name for name in packed_sizes(clone) if name not in left_out]
    assert ".gitignore" in uploaded
    assert [name for name in uploaded if name.split("/")[0] in OF_PATIENTS] == []
