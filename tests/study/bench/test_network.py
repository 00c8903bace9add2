from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from support.processors import needs_bfloat16_convolutions

from renalnet.config import KIDNEY_TUMOR, NetConfig, NetName
from renalnet.nets import build_net
from renalnet.nets.describe import describe
from renalnet.nets.folded import folded
from renalnet.runtime.device import pick_device
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.networks import network
from study.bench.networks.network import OURS, cosine, jobs_of, logit_errors
from study.bench.networks.network_process import WEIGHTS, Implementation, painted
from study.bench.networks.plain import plain

SHAPE = (24, 32, 32)
TINY = Size(network_shape=SHAPE, network_rounds=1)
NAMES: tuple[NetName, ...] = ("fcn_ppm", "unet3d", "pspnet2d")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_channels_last", [False, True])
def test_the_plain_network_gives_the_same_numbers(name: NetName, is_channels_last: bool) -> None:
    net = build_net(NetConfig(name=name, width=8), KIDNEY_TUMOR).eval()
    other = plain(net, is_channels_last=is_channels_last).eval()
    assert {key: value.shape for key, value in other.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    image = painted((24, 30, 26), 2)[0]
    with torch.inference_mode():
        assert torch.allclose(other(image), net(image), atol=1e-4)
    assert not any(type(module).__name__ in ("ConvNorm", "Deconvolution") for module in other.modules())


@pytest.mark.parametrize(
    ("is_channels_last", "layout"),
    [
        (False, torch.contiguous_format),
        pytest.param(True, torch.channels_last_3d, marks=needs_bfloat16_convolutions),
    ],
)
def test_features_of_the_plain_network_are_in_the_order_asked_for(
    is_channels_last: bool, layout: torch.memory_format
) -> None:
    net = plain(build_net(NetConfig(width=8), KIDNEY_TUMOR), is_channels_last=is_channels_last)
    # In float32, PyTorch uses its default order for a map as small as this one.
    with torch.autocast("cpu", torch.bfloat16, enabled=is_channels_last):
        features = net.features(painted(SHAPE, 1)[0])
    assert all(feature.is_contiguous(memory_format=layout) for feature in features)


@pytest.mark.slow
def test_operations_are_those_of_the_description(tmp_path: Path) -> None:
    for network_name in ("renalnet", "plain"):
        inference, training = implementation(tmp_path, network_name).gflop()
        assert inference == 2 * describe(NetConfig(), KIDNEY_TUMOR, SHAPE).multiply_adds / 1e9
        assert 2.9 * inference < training < 3 * inference  # the gradient of the image is not computed


def implementation(folder: Path, network_name: str, *, is_fast: bool | None = None) -> Implementation:
    jobs = jobs_of(TINY, NetConfig(), folder / "net", pick_device())
    job = next(job for job in jobs if job.network == network_name and is_fast in (None, job.is_fast))
    if not (folder / "net").exists():
        network._write_weights(job)
    return Implementation(job)


@pytest.mark.slow
def test_our_error_is_that_of_the_number_format(tmp_path: Path) -> None:
    """The error of ours against plain float32 is that of plain PyTorch in the same format."""
    same = [implementation(tmp_path, "renalnet"), implementation(tmp_path, "plain", is_fast=True)]
    reference = implementation(tmp_path, "plain", is_fast=False)
    loss = reference.check()
    assert [each.check() for each in same] == pytest.approx([loss, loss], rel=0.01)
    ours, other = (logit_errors(read(tmp_path, each, "logits"), read(tmp_path, reference, "logits")) for each in same)
    assert ours[0] < 1.25 * other[0] + 1e-4
    ours, other = (1 - cosine(*(read(tmp_path, one, "gradient") for one in (each, reference))) for each in same)
    assert ours < 1.25 * other + 1e-4


def read(folder: Path, measured: Implementation, what: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.load(folder / "net" / f"{measured.job.name}-{what}.npy")
    return values


def test_folding_changes_nothing_in_float32(tmp_path: Path) -> None:
    net = build_net(NetConfig(), KIDNEY_TUMOR).eval()
    implementation(tmp_path, "plain")  # writes the weights
    net.load_state_dict(load_file(tmp_path / "net" / WEIGHTS))
    image = painted(SHAPE, 1)[0]
    with torch.inference_mode():
        assert logit_errors(folded(net, torch.float32)(image).numpy(), net(image).numpy())[1] < 1e-3


def test_errors_by_hand() -> None:
    reference = np.zeros((1, 3, 1, 1, 2), np.float32)
    reference[..., 0], reference[..., 1] = 4, 8  # spread of 2 in each class
    logits = reference.copy()
    logits[0, 0, 0, 0, 0] += 1
    assert logit_errors(logits, reference) == pytest.approx(((1 / 6) ** 0.5 / 2, 0.5))
    assert cosine(np.array([3, 4], np.float32), np.array([4, 3], np.float32)) == pytest.approx(24 / 25)


def rows_of_monai(rows: list[Row]) -> list[Row]:
    """Return its rows, after a check that there is one for each of its peers and tasks, and a number in every row."""
    peers = {job.name for job in jobs_of(TINY, NetConfig(), Path(), pick_device())} - {OURS}
    assert {row.peer for row in rows if row.peer} == peers
    assert all(row.ours is not None and np.isfinite(row.ours) and np.isfinite(row.theirs or 0) for row in rows)
    found = [row for row in rows if row.peer.startswith("segresnet")]
    assert len(found) == 2 * sum(peer.startswith("segresnet") for peer in peers)
    return found


@pytest.mark.slow
def test_every_row_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not network.is_installed("monai"):
        pytest.skip("monai is not installed")
    monkeypatch.setattr(network, "BASELINES", ("unet3d",))  # each takes many processes
    rows = list(network.rows(TINY, tmp_path))
    assert all(row.theirs and row.note != "not installed" for row in rows_of_monai(rows))
    for task in ("training step", "inference"):
        assert {row.what for row in rows} >= {task, f"{task}, per operation", f"{task}, unet3d"}
    assert {"cosine of the first gradient", "peak memory", "training step, share of the memory's speed"} <= {
        row.what for row in rows
    }


@pytest.mark.slow
def test_absent_networks_are_said_to_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "is_installed", lambda _: False)
    monkeypatch.setattr(network, "BASELINES", ())  # no peer of theirs can be absent
    rows = list(network.rows(TINY, tmp_path))
    assert all(row.theirs is None and row.note == "not installed" for row in rows_of_monai(rows))
