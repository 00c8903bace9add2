"""A newcomer's own scans in three layouts, from raw files to report, masks and planning sheets, in a clone.

The workspace has the twelve scans, their store, and a study of it.
"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.commands import ROOT
from support.documents import SHORT
from support.layouts import FLAT, SERIES, run_in

from cluster.upload import check_upload, packed_sizes
from renalnet.data.cases.loading import load_scan
from renalnet.data.store.reader import open_store
from renalnet.nets.bundle import MODEL_FILE
from renalnet.prediction.predictor import load_predictor
from renalnet.prediction.provenance import scan_digest
from study.records.results import Results

pytestmark = pytest.mark.slow
BEST = "results/mine/best"
OF_PATIENTS = ("cohort", "flat", "dicom", "store", "masks", "masks-mine", "masks-own", "results")
"""Folders of a clone with files that show patients."""


@pytest.fixture(scope="module")
def clone(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the project's ignored names, in which all of the newcomer's commands have been run."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    shutil.copytree(workspace, folder)
    shutil.copy(ROOT / ".gitignore", folder)
    scans = [f"flat/imagesTr/{FLAT[0]}.nii.gz", f"dicom/{SERIES[1]}/series"]
    run_in(folder, "renalnet", "predict", *scans, "--model", BEST, "--out", "masks-own")
    run_in(folder, "renalnet", "plan", "masks-own", "--out", "masks-own/plan.json")
    run_in(folder, "renalnet", "evaluate", "--truth", "masks-own", "--pred", "masks-own", "--out", "metrics.json")
    winner = json.loads((folder / "results" / "mine" / "manifest.json").read_text())["winner"]
    program = f"program=results/mine/final/masks/{winner}"
    run_in(folder, "study.report", "results/mine", "--data", "store", "--add", program)
    yield folder
    shutil.rmtree(folder)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def provenance_of(clone: Path) -> list[dict[str, Any]]:
    outputs = [read(path) for path in sorted((clone / "masks-own").glob("*.json")) if path.stem != "plan"]
    return [each["provenance"] for each in outputs]


def test_scans_of_all_layouts_are_in_one_store_and_in_the_study(clone: Path) -> None:
    store = open_store(clone / "store")
    names = {case.rpartition("-")[0] or case for case in store.cases()}
    for scan in ("case_00000", *FLAT, *SERIES):
        assert any(scan in name for name in names), scan
    store.verify()
    data = read(clone / "results" / "mine" / "manifest.json")["data"]
    assert sum(data["num_cases"].values()) == len(store.cases()) == 12
    assert data["fingerprint"] == store.fingerprint
    assert data["fingerprint"] in (clone / "results" / "mine" / "report.html").read_text(encoding="utf-8")


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


def test_what_is_measured_on_masks_states_their_origin(clone: Path) -> None:
    rows = read(clone / "masks-own" / "plan.json")["sheets"]
    assert {Path(row["mask"]).parent.name for row in rows} <= {"masks-own"}
    for name, times in (("masks-own/plan.json", 1), ("metrics.json", 2)):
        about = read(clone / name)["provenance"]
        assert about["renalnet"] == version("renalnet")
        assert len(about["masks"]) == 2 * times
        for each in about["masks"]:
            mask = clone / "masks-own" / Path(each["mask"]).name
            assert each["mask_sha256"] == hashlib.sha256(mask.read_bytes()).hexdigest()
            assert each["made_from"] in provenance_of(clone)


def test_the_masks_of_the_readme_and_its_export_state_their_origin(clone: Path) -> None:
    scan, _ = load_scan(clone / "cohort" / "case_00000" / "imaging.nii.gz")
    for folder in ("masks", "masks-mine"):
        (mask,) = (read(path)["provenance"] for path in (clone / folder).glob("*.json"))
        assert mask["model"] in ("packaged", BEST)
        assert mask["scan_sha256"] == scan_digest(scan.array)
        assert mask["renalnet"] == version("renalnet") and mask["inference"]
        (digest,) = mask["model_sha256"]
    exported = read(clone / "kidney.json")
    assert exported["renalnet"] == version("renalnet")
    assert [len(digest)] == [len(each) for each in exported["model_sha256"]] == [64]


def test_another_program_is_in_the_report(clone: Path) -> None:
    """Its masks are the winner's, so its numbers are, too, apart from the resampling from the grids of the scans."""
    with (clone / "results" / "mine" / "tables" / "table_one.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["role"]: row for row in csv.DictReader(file)}
    assert rows["added"]["network"] == "program"
    assert rows["added"]["patients"] == rows["winner"]["patients"]
    added, winner = (float(rows[role]["dice_kidney_mean"]) for role in ("added", "winner"))
    assert added == pytest.approx(winner, abs=0.05)
    assert "program" in Path(Results(str(clone / "results" / "mine")).page_path).read_text(encoding="utf-8")


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
