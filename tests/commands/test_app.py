"""Command lines: errors are one line with exit code 2, and no partial files are written."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from support import commands
from support.label_sets import CYST, VEIN, VESSELS_YAML

from renalnet.data.images.volume import Grid, Volume, grid_difference, read_volume, write_volume
from renalnet.data.store.reader import Store

ROOT = Path(__file__).parents[2]
GRID = Grid.axis_aligned((4, 5, 6), (3.0, 1.0, 1.0))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run([sys.executable, "-m", *arguments])


def write_case(folder: Path, label: np.ndarray, label_grid: Grid = GRID) -> None:
    image = np.random.default_rng(0).integers(-100, 200, GRID.shape).astype(np.int16)
    write_volume(folder / "imaging.nii.gz", Volume(image, GRID))
    write_volume(folder / "segmentation.nii.gz", Volume(label, label_grid))


def assert_refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(text in lines[0] for text in expected), lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["renalnet", "study.run", "study.report", "cluster.submit"])
def test_all_commands_state_the_version(module: str) -> None:
    done = run(module, "--version")
    assert (done.returncode, done.stdout) == (0, f"renalnet {version('renalnet')}\n"), done.stderr


def test_missing_folder(tmp_path: Path) -> None:
    done = run("renalnet", "prepare", str(tmp_path / "none"), "--out", str(tmp_path / "store"))
    assert_refused(done, str(tmp_path / "none"), "no such folder")
    assert not (tmp_path / "store").exists()


def test_empty_cohort(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    done = run("renalnet", "prepare", str(tmp_path / "src"), "--out", str(tmp_path / "store"))
    assert_refused(done, "holds no cases")
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_label_of_another_grid(tmp_path: Path) -> None:
    write_case(tmp_path / "src" / "case_00000", np.ones((4, 5, 7), np.uint8), Grid.axis_aligned((4, 5, 7), (3, 1, 1)))
    done = run("renalnet", "prepare", str(tmp_path / "src"), "--out", str(tmp_path / "store"), "--workers", "1")
    assert_refused(done, "another grid", "case_00000", str(tmp_path / "store" / "validation.csv"))
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["findings.json", "validation.csv"]


@pytest.mark.slow
def test_label_value_7(tmp_path: Path) -> None:
    write_case(tmp_path / "src" / "case_00000", np.full((4, 5, 6), 7, np.uint8))
    done = run("renalnet", "prepare", str(tmp_path / "src"), "--out", str(tmp_path / "store"), "--workers", "1")
    assert_refused(done, "7", "segmentation.nii.gz")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("study.run", "--preset", "quik"), ("unknown preset 'quik'", "did you mean 'quick'")),
        (("study.run", "--set", "search.num_trial=3"), ("unknown key 'search.num_trial'", "did you mean 'num_trials'")),
        (("study.run", "--set", "train.epochs=0"), ("train.epochs", "greater than or equal to 1")),
        (("study.run", "--data", "no/such/store"), ("no store here",)),
        (("study.report", "no/such/results"), ("no/such/results",)),
        (("renalnet", "describe", "--preset", "papre"), ("did you mean 'paper'",)),
        (("renalnet", "nonsense"), ("nonsense",)),
        (("renalnet", "train", "store", "--out", "no/such/run", "--threads", "0"), ("--threads", "greater")),
        (("study.run", "--data", "README.md"), ("README.md",)),
        (("study.run", "--results", "README.md/results"), ("README.md/results",)),
        (("renalnet", "phantom"), ("--out",)),
        (("renalnet", "store", "verify", "n" * 300), ("too long", "name a path")),
        (("renalnet", "store", "verify", "no/such/store"), ("no store here",)),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], expected: tuple[str, ...]) -> None:
    before = sorted(ROOT.glob("results/*"))
    assert_refused(run(*arguments), *expected)
    assert sorted(ROOT.glob("results/*")) == before


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_cut_image(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "renalnet", "phantom", "--out", str(tmp_path), "--workers", "1"]
    arguments += ["--set", "num_cases=1", "--set", "shape=[60,110,110]", "--set", "spacing_mm=[5.0,3.2,3.2]"]
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *arguments]  # largest size of a file, in KiB
    done = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "imaging.nii.gz': the disk or a quota is full; make room" in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["cohort.json"]


@pytest.mark.slow
def test_phantom_prepare_train_describe(tmp_path: Path) -> None:
    small = ["--set", "num_cases=6", "--set", "shape=[40,96,96]", "--set", "spacing_mm=[6,3.6,3.6]"]
    # Rich would read the brackets of the folder as the end of a style.
    cohort = str(tmp_path / "old[/cohort]")
    painted = run("renalnet", "phantom", "--out", cohort, *small)
    assert painted.returncode == 0, painted.stderr
    assert f"6 cases (synthetic) in {cohort}\n" in painted.stdout
    assert "inside the true kidney-and-tumor region" in painted.stdout
    store = str(tmp_path / "store")
    prepared = run("renalnet", "prepare", cohort, "--out", store, "--preset", "quick", "--set", "num_atlases=2")
    assert prepared.returncode == 0, prepared.stderr
    assert run("renalnet", "store", "verify", store).returncode == 0
    # The same without the options: they are those of the store.
    again = run("renalnet", "prepare", cohort, "--out", store)
    assert again.returncode == 0 and "0 cases written, 6 in the store" in again.stdout, again.stderr
    tiny = ["train.net.width=4", "train.epochs=1", "steps_per_epoch=2", "optim.batch_size=1"]
    options = [word for assignment in tiny for word in ("--set", assignment)]
    trained = run("renalnet", "train", store, "--out", str(tmp_path / "run"), *options)
    assert trained.returncode == 0, trained.stderr
    assert f"preset quick, which has the grid of {store}\n" in trained.stdout
    assert re.search(r"^epoch  1 of 1 .* waiting for data \d+%", trained.stdout, re.MULTILINE)
    assert (tmp_path / "run" / "model.safetensors").exists()
    scans = [str(Path(cohort) / f"case_0000{number}" / "imaging.nii.gz") for number in (0, 1)]
    predicted = run("renalnet", "predict", *scans, "--model", str(tmp_path / "run"), "--out", str(tmp_path / "masks"))
    assert predicted.returncode == 0, predicted.stderr
    mask = read_volume(tmp_path / "masks" / "case_00001.nii.gz")
    assert grid_difference(mask.grid, read_volume(scans[1]).grid) is None
    report = json.loads((tmp_path / "masks" / "case_00001.json").read_text())
    assert report["volume_ml"]["kidney"] == pytest.approx(int((mask.array == 1).sum()) * mask.grid.voxel_ml)


def test_evaluate_writes_every_measure(tmp_path: Path) -> None:
    label = np.zeros(GRID.shape, np.uint8)
    label[1:3, 1:4, 1:4] = 1
    label[1, 2, 2] = 2
    for folder in ("truth", "pred"):
        write_volume(tmp_path / folder / "a.nii.gz", Volume(label, GRID))
    out = tmp_path / "metrics.json"
    done = run(
        "renalnet", "evaluate", "--truth", str(tmp_path / "truth"), "--pred", str(tmp_path / "pred"), "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    tumor = found["cases"]["a"]["tumor"]
    assert (tumor["dice"], tumor["surface_distance_mm"]) == (1.0, 0.0)
    masks = [tmp_path / folder / "a.nii.gz" for folder in ("truth", "pred")]
    assert found["provenance"] == {
        "renalnet": version("renalnet"),
        "settings": {"labels": "kidney_tumor"},
        "masks": [
            {"mask": str(mask), "mask_sha256": hashlib.sha256(mask.read_bytes()).hexdigest(), "made_from": None}
            for mask in masks
        ],
    }
    assert tumor["volume_truth_ml"] == pytest.approx(0.003)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [(row["case"], row["label"]) for row in rows] == [
        ("a", label) for label in ("kidney", "tumor", "kidney_and_mass", "mass")
    ]
    assert float(rows[1]["dice"]) == 1.0


def write_masks(tmp_path: Path, truth: np.ndarray, pred: np.ndarray) -> tuple[str, ...]:
    """Write a pair of masks and return the options of `evaluate`."""
    for folder, values in (("truth", truth), ("pred", pred)):
        write_volume(tmp_path / folder / "a.nii.gz", Volume(values, GRID))
    out = tmp_path / "metrics.json"
    return ("--truth", str(tmp_path / "truth"), "--pred", str(tmp_path / "pred"), "--out", str(out))


def test_evaluate_measures_the_labels_of_a_set(tmp_path: Path) -> None:
    """Of 4 voxels of cyst, 2 are found. One voxel of vein is found."""
    truth = np.zeros(GRID.shape, np.uint8)
    truth[1:3, 1:4, 1:4] = 1
    truth[1, 1:3, 1:3] = CYST
    truth[3, 4, 5] = VEIN
    pred = truth.copy()
    pred[1, 1, 1:3] = 1
    (tmp_path / "vessels.yaml").write_text(VESSELS_YAML)
    arguments = write_masks(tmp_path, truth, pred)
    done = run("renalnet", "evaluate", *arguments, "--labels", str(tmp_path / "vessels.yaml"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())
    names = ["kidney", "tumor", "cyst", "renal_artery", "renal_vein", "kidney_and_mass", "mass"]
    assert list(found["cases"]["a"]) == names
    dice = [found["cases"]["a"][name]["dice"] for name in names]
    assert dice == pytest.approx([2 * 14 / 30, 1, 2 * 2 / 6, 1, 1, 1, 2 * 2 / 6])
    assert found["other_lesions"]["cyst"]["voxel"]["sensitivity"]["value"] == 0.5
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == names


@pytest.mark.slow
def test_evaluate_refuses_a_label_that_the_set_does_not_have(tmp_path: Path) -> None:
    arguments = write_masks(tmp_path, np.ones(GRID.shape, np.uint8), np.full(GRID.shape, CYST, np.uint8))
    expected = ("a.nii.gz: label 3 must be 0 background, 1 kidney or 2 tumor", "relabel the file")
    assert_refused(run("renalnet", "evaluate", *arguments), *expected)
    done = run("renalnet", "evaluate", *arguments, "--labels", "kits23")
    assert done.returncode == 0, done.stderr
    assert_refused(
        run("renalnet", "evaluate", *arguments, "--labels", "kits24"), "unknown label set 'kits24'", "kits23"
    )


def num_parameters(*settings: str) -> int:
    done = run("renalnet", "describe", "--preset", "quick", *settings)
    found = re.search(r"^parameters: ([\d,]+), ", done.stdout, re.MULTILINE)
    assert found, done.stderr
    return int(found[1].replace(",", ""))


def test_describe_counts_the_classes_of_the_label_set() -> None:
    """The head has 16 weights and a bias for each class."""
    assert num_parameters("--set", "labels=kits23") - num_parameters() == 17


def test_evaluate_names_the_masks_that_are_missing(tmp_path: Path) -> None:
    for folder, names in (("truth", "abcdefgh"), ("pred", "ab")):
        for name in names:
            write_volume(tmp_path / folder / f"{name}.nii.gz", Volume(np.zeros(GRID.shape, np.uint8), GRID))
    out = tmp_path / "metrics.json"
    arguments = ("--truth", str(tmp_path / "truth"), "--pred", str(tmp_path / "pred"), "--out", str(out))
    assert_refused(run("renalnet", "evaluate", *arguments), "pred: lacks 6 of 8 masks (c, d, e, f, g, …)")
    assert not out.exists()


def test_damaged_shard_is_named(ball_store: Store, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    subprocess.run(["cp", "-r", ball_store.path, str(copied)], check=True)
    shard = next((copied / "shards").glob("train-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    assert_refused(run("renalnet", "store", "verify", str(copied)), shard.name)


def test_store_of_another_grid_than_the_preset(ball_store: Store, tmp_path: Path) -> None:
    trained = run("renalnet", "train", ball_store.path, "--out", str(tmp_path / "run"))
    assert_refused(trained, "was prepared at (2.0, 2.0, 2.0) mm, the grid of no preset; name one with --preset")
    assert not (tmp_path / "run").exists()
    done = run("study.run", "--data", ball_store.path, "--results", str(tmp_path / "results"))
    assert_refused(done, "was prepared at (2.0, 2.0, 2.0) mm", "choose the preset")
    assert not (tmp_path / "results").exists()
