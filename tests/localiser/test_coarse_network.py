"""The coarse network: windows, its file, and that training teaches it to find balls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.coarse_scans import a_scan

from renalnet.data.images.volume import Grid, Volume
from renalnet.errors import CheckpointError
from renalnet.localiser.examples import EXAMPLE_SHAPE
from renalnet.localiser.network import CoarseNetwork, _windows, load_network, network_to_bytes, new_network
from renalnet.localiser.training import train_network


def image_of(shape: tuple[int, int, int]) -> Volume:
    array = np.random.default_rng(0).integers(-200, 400, shape).astype(np.int16)
    return Volume(array, Grid.axis_aligned(shape, (6.0, 6.0, 6.0)))


@pytest.mark.parametrize("num_slices", [1, 30, 56, 57, 84, 140, 300])
def test_windows_cover_every_slice(num_slices: int) -> None:
    windows = _windows(num_slices)
    covered = np.zeros(num_slices, int)
    for window in windows:
        assert window.stop - window.start == min(num_slices, EXAMPLE_SHAPE[0])
        covered[window] += 1
    assert covered.min() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(10, 30, 20), (70, 64, 70)])
def test_probabilities_have_the_shape_of_the_scan(shape: tuple[int, int, int]) -> None:
    found = new_network(0).kidneys(image_of(shape))
    assert found.shape == (2, *shape) and found.dtype == np.float32
    assert found.min() >= 0 and found.sum(axis=0).max() <= 1 + 1e-5


def test_a_file_gives_the_same_network(tmp_path: Path) -> None:
    network = CoarseNetwork(new_network(3).net, {"num_scans": 7})
    (tmp_path / "net.safetensors").write_bytes(network_to_bytes(network))
    again = load_network(tmp_path / "net.safetensors")
    assert again.about == {"num_scans": 7}
    assert np.array_equal(again.kidneys(image_of((12, 20, 20))), network.kidneys(image_of((12, 20, 20))))


@pytest.mark.parametrize("content", [b"", b"no tensors at all, but long enough to have a header", None])
def test_a_damaged_file_is_one_clear_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.safetensors: holds no network of a localiser"):
        load_network(path)


@pytest.mark.slow
def test_training_lowers_the_loss_and_keeps_its_start() -> None:
    start = new_network(0)
    before = {name: tensor.clone() for name, tensor in start.net.state_dict().items()}
    losses: list[float] = []
    trained = train_network(
        start, [a_scan()], num_steps=6, base_rate=3e-3, seed=0, on_step=lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 6 and np.mean(losses[3:]) < np.mean(losses[:3])
    assert all(torch.equal(before[name], tensor) for name, tensor in start.net.state_dict().items())
    assert trained.about == {"num_scans": 1, "num_steps": 6, "seed": 0}
