import json
from pathlib import Path

import pytest
import torch
from support.bundles import bundle_config

from renalnet.errors import CheckpointError
from renalnet.nets.bundle import load_model, save_model
from renalnet.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


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


def test_altered_values_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 1, 2)
    path = tmp_path / "checkpoint-000002.json"
    path.write_text(path.read_text().replace('"step": 2', '"step": 3'))
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert "does not match its checksum" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"sha256": '])
def test_json_that_is_no_checkpoints_is_skipped(content: str, tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    (tmp_path / "checkpoint-000002.json").write_text(content)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 1


def test_damaged_ones_of_later_steps_go_when_a_run_comes_from_behind(tmp_path: Path) -> None:
    save_steps(tmp_path, 5, 8, 9)
    for step in (8, 9):
        (tmp_path / f"checkpoint-{step:06d}.safetensors").write_bytes(b"")
    save_steps(tmp_path, 6)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 6
    assert [path.name for path in sorted(tmp_path.glob("*"))] == [
        "checkpoint-000006.json",
        "checkpoint-000006.safetensors",
    ]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.safetensors.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / ".notes").write_text("someone's")
    save_steps(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".notes"]


def test_more_than_a_million_steps_are_in_order(tmp_path: Path) -> None:
    save_steps(tmp_path, 999999, 1000000)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 1000000


def test_a_folder_of_damaged_ones_alone_is_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step:06d}.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged; restore one"):
        load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none") is None


def test_model_round_trip(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config(epoch=4))
    tensors, config = load_model(tmp_path)
    assert tensors["w"].tolist() == [0.0, 1.0, 2.0] and config.epoch == 4


def test_damaged_model_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config())
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_model(tmp_path)


@pytest.mark.parametrize("change", [{"epoch": 5}, {"more": 1}])
def test_an_edited_configuration_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config(epoch=4, data="balls"))
    path = tmp_path / "config.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(known.items()))))  # order and white space carry no value
    assert load_model(tmp_path)[1].data == "balls"
    path.write_text(json.dumps({**known, **change}))
    with pytest.raises(CheckpointError, match=r"config\.json differs from its checksum: it was edited or damaged"):
        load_model(tmp_path)


def test_a_configuration_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config(epoch=4))
    path = tmp_path / "config.json"
    known = json.loads(path.read_text())
    del known["config_sha256"]
    path.write_text(json.dumps(known))
    assert load_model(tmp_path)[1].epoch == 4


@pytest.mark.parametrize("text", ["[]", "{}", '{"sha256": 1}', "[" * 100_000, "\0", ""])
def test_what_is_no_configuration_is_one_error(tmp_path: Path, text: str) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        load_model(tmp_path)
