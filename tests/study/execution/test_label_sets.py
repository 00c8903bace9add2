"""A study of a user's own label set, from its command line to its report."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from support.balls import ball_roi
from support.study_command import ONE_AT_A_TIME, command, run
from support.tiny import TINY

from renalnet.config import PrepareConfig, label_set
from renalnet.data.images.volume import read_volume
from renalnet.data.store.reader import Roi, Store
from renalnet.data.store.writer import write_store
from renalnet.types import Split

FIVE = {
    "name": "five",
    "labels": [
        {"name": "kidney", "value": 1, "crop_share": 0.2},
        {"name": "tumor", "value": 2, "lesion_of": "kidney", "loss_weight": 2, "crop_share": 0.3},
        {"name": "cyst", "value": 3, "lesion_of": "kidney", "crop_share": 0.2, "color": "#4D8DFF"},
        {"name": "renal_artery", "value": 4, "crop_share": 0.1, "color": "#FF8800"},
        {"name": "renal_vein", "value": 5, "color": "#8844FF"},
    ],
}
NAMES = ("kidney", "tumor", "cyst", "renal_artery", "renal_vein")


def five_label_roi(case: str, split: Split, seed: int) -> Roi:
    """Return `ball_roi` with a cyst in the kidney, and an artery and a vein that lead to it along x."""
    roi = ball_roi(case, split, seed)
    z, y, x = np.meshgrid(*map(np.arange, roi.label.shape), indexing="ij")
    middle = np.argwhere(roi.label == 1).mean(axis=0)
    near = (z - middle[0]) ** 2 + (y - middle[1] + 3) ** 2 + (x - middle[2]) ** 2
    roi.label[(near < 9) & (roi.label == 1)] = 3
    for value, depth in ((4, 2), (5, -2)):
        on_line = (np.abs(z - middle[0]) < 1.5) & (np.abs(y - middle[1] - depth) < 1.5)
        roi.label[on_line & (roi.label == 0) & (x < middle[2])] = value
    roi.image[roi.label == 3] = 10
    roi.image[roi.label == 4] = 320
    roi.image[roi.label == 5] = 250
    return roi


@pytest.fixture(scope="module")
def five_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four training, two validation and two test cases with five labels."""
    splits: list[Split] = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    rois = [five_label_roi(f"case_{number}", split, number) for number, split in enumerate(splits)]
    config = PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut", labels=label_set(FIVE))
    return write_store(tmp_path_factory.mktemp("five") / "store", rois, config)


def test_a_store_of_another_set_is_refused(ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    done = run(command(ball_store, tiny_file, tmp_path / "r", "--set", "labels=kits23"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "its labels are kidney_tumor (1 kidney, 2 tumor), but those of the study are kits23" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_five_labels_reach_every_table(five_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**TINY, "labels": FIVE}))
    shorter = ["train.epochs=2", "search.num_trials=2", "search.baselines=[]", "final.num_finalists=1"]
    more = [word for assignment in shorter for word in ("--set", assignment)]
    results = tmp_path / "results"
    done = run(command(five_store, tmp_path / "study.yaml", results, *more, *ONE_AT_A_TIME))
    assert done.returncode == 0, done.stderr
    assert all(name.replace("_", " ") in done.stdout for name in NAMES)
    trials = pq.read_schema(results / "trials.parquet").names
    assert {f"dice_{name}" for name in NAMES} | {f"weight_{name}" for name in NAMES} <= set(trials)
    metrics = pq.read_table(results / "final" / "metrics.parquet").to_pylist()
    assert {row["label"] for row in metrics} == {*NAMES, "kidney_and_mass", "mass"}
    assert {row["label"] for row in metrics if row["found"] is not None} == {"tumor", "cyst", "mass"}
    with (results / "tables" / "table_one.csv").open() as file:
        (winner, *_) = csv.DictReader(file)
    assert {f"dice_{name}_mean" for name in NAMES} <= winner.keys()
    plan = pq.read_schema(results / "final" / "plan.parquet").names
    assert {"cyst_ml", "num_cysts"} <= set(plan) and "renal_artery_ml" not in plan
    masks = [read_volume(path).array for path in (results / "final" / "masks").glob("*/*.nii.gz")]
    assert masks and max(int(mask.max()) for mask in masks) <= 5
    bundle = json.loads((results / "best" / "config.json").read_text())
    assert [label["name"] for label in bundle["train"]["labels"]["labels"]] == list(NAMES)
    page = (results / "report.html").read_text()
    assert all(color in page for color in ("#4D8DFF", "#FF8800", "#8844FF"))
