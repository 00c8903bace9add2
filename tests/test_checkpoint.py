from pathlib import Path

import pytest
import torch

from renalnet.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint, save_model
from renalnet.errors import CheckpointError


def save_steps(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, Checkpoint(step, {"w": torch.full((2,), float(step))}, {"step": step}))


def test_newest_comes_back(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.tensors["w"].tolist(), found.meta["step"]) == (2, [2.0, 2.0], 2)


def test_only_two_are_kept(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "checkpoint-000002.json",
        "checkpoint-000003.json",
    ]


def test_truncated_one_is_skipped_for_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 1, 2)
    newest = tmp_path / "checkpoint-000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert "checkpoint 2 of" in caplog.text and "damaged" in caplog.text


def test_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none") is None


def test_model_round_trip(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, {"epoch": 4})
    tensors, config = load_model(tmp_path)
    assert tensors["w"].tolist() == [0.0, 1.0, 2.0] and config["epoch"] == 4


def test_damaged_model_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, {})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_model(tmp_path)


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        load_model(tmp_path)
