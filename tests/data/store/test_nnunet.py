"""A store as a data set of nnU-Net: every file is read by nibabel, and by nnU-Net's own check where it is installed."""

import errno
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from support.label_sets import VESSELS, VESSELS_YAML
from support.label_values import KIDNEY, TUMOR

from renalnet.config import PrepareConfig, label_set
from renalnet.data.images.volume import Grid
from renalnet.data.store.nnunet import export_nnunet
from renalnet.data.store.reader import Roi, Store
from renalnet.data.store.writer import write_store
from renalnet.errors import ConfigError, InputError
from renalnet.types import Split

GRID = Grid.axis_aligned((2, 3, 4), (3.0, 2.0, 1.5), (-40.0, 30.0, -20.5))
"""2 slices of 3 rows and 4 columns."""
# NIfTI's x and y grow to the right and to the front, those of the grid to the left and to the back.
AFFINE = [[-1.5, 0, 0, 20.5], [0, -2, 0, -30], [0, 0, 3, -40], [0, 0, 0, 1]]


def roi(case: str, split: Split) -> Roi:
    """Return an ROI whose CT numbers count its voxels, with a kidney of one voxel beside a tumor of one voxel."""
    image = np.arange(-12, 12, dtype=np.int16).reshape(GRID.shape) * 100
    label = np.zeros(GRID.shape, np.uint8)
    label[1, 2, 2:] = KIDNEY, TUMOR
    return Roi(case, split, image, label, GRID, GRID)


def small_store(folder: Path, *splits: Split, **config: object) -> Store:
    rois = [roi(f"{split} {number}", split) for number, split in enumerate(splits)]
    return write_store(folder, rois, PrepareConfig(spacing_mm=GRID.spacing_mm, localise="cut", **config))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_voxels_and_grid_are_those_of_the_roi(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", "train", "test")
    folder = Path(export_nnunet(store, tmp_path, 7, "Kidney"))
    assert folder == tmp_path / "Dataset007_Kidney"
    for part, case in (("Tr", "train 0"), ("Ts", "test 1")):
        image = nibabel.load(folder / f"images{part}" / f"{case}_0000.nii.gz")
        label = nibabel.load(folder / f"labels{part}" / f"{case}.nii.gz")
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        assert image.header.get_xyzt_units()[0] == "mm"
        for each in (image, label):
            assert each.shape == (4, 3, 2)
            np.testing.assert_allclose(each.affine, AFFINE, atol=1e-6)
        voxels = np.asarray(image.dataobj)
        # The columns are neighbours in memory, then the rows, then the slices.
        assert voxels[0, 0, 0] == -1200 and voxels[1, 0, 0] == -1100 and voxels[0, 1, 0] == -800
        assert voxels[3, 2, 1] == 1100
        labels = np.asarray(label.dataobj)
        assert np.argwhere(labels).tolist() == [[2, 2, 1], [3, 2, 1]]
        assert (labels[2, 2, 1], labels[3, 2, 1]) == (1, 2)


def test_cases_go_into_the_folders_of_their_splits(ball_store: Store, tmp_path: Path) -> None:
    done = list[tuple[int, int]]()
    folder = Path(export_nnunet(ball_store, tmp_path, 101, "Kidney", lambda *counts: done.append(counts)))
    train, validation, test = range(4), range(4, 6), range(6, 8)
    expected = ["dataset.json", "splits_final.json"]
    for part, cases in (("Tr", [*train, *validation]), ("Ts", test)):
        expected += [f"images{part}/case_{number:05d}_0000.nii.gz" for number in cases]
        expected += [f"labels{part}/case_{number:05d}.nii.gz" for number in cases]
    assert names(folder) == sorted(expected)
    assert done == [(number, 8) for number in range(1, 9)]
    assert [path.name for path in tmp_path.iterdir()] == ["Dataset101_Kidney"]
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "kidney": 1, "tumor": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
        "name": "Kidney",
        "description": f"ROIs of the renalnet store {ball_store.fingerprint}, label set kidney_tumor",
    }
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {
            "train": ["case_00000", "case_00001", "case_00002", "case_00003"],
            "val": ["case_00004", "case_00005"],
        }
    ]
    for case in ball_store.cases():
        written = ball_store.read(case)
        part = "Ts" if written.split == "test" else "Tr"
        image = nibabel.load(folder / f"images{part}" / f"{case}_0000.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, written.image)
        label = nibabel.load(folder / f"labels{part}" / f"{case}.nii.gz")
        np.testing.assert_array_equal(np.asarray(label.dataobj).T, written.label)


def test_labels_are_those_of_the_label_set(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", "train", labels=VESSELS)
    folder = Path(export_nnunet(store, tmp_path, 1, "Vessels"))
    labels = {"background": 0, "kidney": 1, "tumor": 2, "cyst": 3, "renal_artery": 4, "renal_vein": 5}
    assert json.loads((folder / "dataset.json").read_text())["labels"] == labels


def test_a_split_without_cases_is_left_out(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", "train")
    folder = Path(export_nnunet(store, tmp_path, 1, "Kidney"))
    assert names(folder) == ["dataset.json", "imagesTr/train 0_0000.nii.gz", "labelsTr/train 0.nii.gz"]


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (0, "Kidney", "number 0 of the data set: must be 1 to 999"),
        (1000, "Kidney", "number 1000 of the data set: must be 1 to 999"),
        (1, "", "name '' of the data set: must be 1 to 40 letters"),
        (1, "my/kidney", "name 'my/kidney' of the data set"),
        (1, "K" * 41, "must be 1 to 40 letters"),
    ],
)
def test_a_number_and_a_name_of_nnunet_are_required(
    ball_store: Store, tmp_path: Path, number: int, name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_nnunet(ball_store, tmp_path / "raw", number, name)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", ["Kidney", "Spleen"])
def test_no_data_set_is_overwritten_or_gets_the_number_of_another_one(
    ball_store: Store, tmp_path: Path, name: str
) -> None:
    other = tmp_path / f"Dataset101_{name}" / "dataset.json"
    other.parent.mkdir()
    other.write_text("{}")
    with pytest.raises(ConfigError, match=f"holds Dataset101_{name}, and nnU-Net knows a data set by its number"):
        export_nnunet(ball_store, tmp_path, 101, "Kidney")
    assert names(tmp_path) == [f"Dataset101_{name}/dataset.json"] and other.read_text() == "{}"


def test_a_full_disk_leaves_nothing(ball_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(done: int, total: int) -> None:
        if done == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        export_nnunet(ball_store, tmp_path / "raw", 101, "Kidney", full)
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_label_that_nnunet_would_not_train_on_is_refused(tmp_path: Path) -> None:
    ignoring = label_set(yaml.safe_load(VESSELS_YAML.replace("renal_vein", "ignore")))
    store = small_store(tmp_path / "store", "train", labels=ignoring)
    with pytest.raises(InputError, match="label 'ignore', whose voxels nnU-Net would not train on; rename it"):
        export_nnunet(store, tmp_path / "raw", 1, "Kidney")
    assert not (tmp_path / "raw").exists()


def test_an_object_store_is_refused(ball_store: Store, s3_uri: str) -> None:
    with pytest.raises(InputError, match="name a local folder, then copy it"):
        export_nnunet(ball_store, s3_uri, 1, "Kidney")


@pytest.mark.slow
def test_nnunet_finds_no_fault(ball_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = pytest.importorskip(
        "nnunetv2.experiment_planning.verify_dataset_integrity", reason="nnU-Net is no dependency"
    )
    check.verify_dataset_integrity(export_nnunet(ball_store, tmp_path, 101, "Kidney"), num_processes=1)
    said = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in said and "Error" not in said and "WARNING" not in said.upper()
