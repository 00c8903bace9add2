"""Runs that are killed at any time end like an undisturbed run: real processes and real SIGKILLs."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_process import start_training

from renalnet.config import LoaderConfig, TrainConfig
from renalnet.data.store.reader import Store
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.epochs import LOG_FILE

STEPS_PER_EPOCH = 7


def run_to_its_end(config: TrainConfig, store: Store, folder: Path) -> None:
    child, steps = start_training(config, store, folder)
    with pytest.raises(EOFError):
        while True:
            steps.recv()
    child.join()
    assert child.exitcode == 0


def kill_after_some_steps(
    config: TrainConfig, store: Store, folder: Path, generator: np.random.Generator
) -> tuple[int, int]:
    """Return the last step of the killed child, and the step of its checkpoint."""
    child, steps = start_training(config, store, folder)
    for _ in range(1 + int(generator.integers(3))):
        step = steps.recv()
    time.sleep(generator.uniform(0, 0.04))
    child.kill()
    child.join()
    assert child.exitcode == -9, "it had ended before it was killed"
    found = load_checkpoint(folder)
    return step, found.step if found else 0


def read(folder: Path) -> tuple[dict[str, torch.Tensor], list[tuple[float, ...]]]:
    found = load_checkpoint(folder)
    assert found is not None
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    values = [(line["loss"], line["dice_kidney"], line["dice_tumor"], line["objective"]) for line in lines]
    return found.tensors, values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "workers", "num_kills"), [("fcn_ppm", 0, 10), ("unet3d", 1, 4), ("pspnet2d", 2, 4)]
)
def test_a_run_killed_many_times_ends_bit_for_bit_as_the_undisturbed(
    network: str, workers: int, num_kills: int, tiny_train: TrainConfig, ball_store: Store, tmp_path: Path
) -> None:
    changes = {
        "net": tiny_train.net.model_copy(update={"name": network}),
        "loader": LoaderConfig(workers=workers),
        "epochs": num_kills - 1,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "checkpoint_every_s": 0.0,
    }
    config = tiny_train.model_copy(update=changes)
    run_to_its_end(config, ball_store, tmp_path / "undisturbed")
    generator = np.random.default_rng([workers, len(network)])
    folder = tmp_path / "killed"
    reached = [kill_after_some_steps(config, ball_store, folder, generator) for _ in range(num_kills)]
    last_step = config.epochs * STEPS_PER_EPOCH
    assert all(step < last_step and kept < last_step for step, kept in reached)
    assert any(kept % STEPS_PER_EPOCH for _, kept in reached), "no kill fell inside an epoch"
    assert all(step - 1 <= kept for step, kept in reached), "more than the step under way was lost"
    run_to_its_end(config, ball_store, folder)
    (tensors, values), (expected, expected_values) = read(folder), read(tmp_path / "undisturbed")
    assert tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in tensors)
    assert values == expected_values and len(values) == config.epochs
    bundles = [(at / "model.safetensors").read_bytes() for at in (folder, tmp_path / "undisturbed")]
    assert bundles[0] == bundles[1]
    assert not list(folder.glob(".*.tmp"))
