"""Convolutions that are wrong in bfloat16 on this processor: planted ones are found, named and computed in float32."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.config import KIDNEY_TUMOR, NETWORKS, NetConfig, NetName, TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.blocks import DilatedConvolution, compute_in_float32
from renalnet.nets.folded import folded
from renalnet.precision import agreement, verdicts
from renalnet.precision.convolutions import convolutions_of
from renalnet.precision.routes import layers_in_float32, route_around_faults
from renalnet.runtime.device import Device
from renalnet.train.run import TrainingRun

BFLOAT16 = Device(torch.device("cpu"), use_bfloat16=True)
FLOAT32 = Device(torch.device("cpu"), use_bfloat16=False)
SHAPE = (2, 1, 12, 16, 16)
WRONG = ["at_quarter.4.body.1.convolution", "at_quarter.5.body.1.convolution"]
"""The layers with dilation 4, which a fault is planted in. They compute the same convolution."""


class _Spoilt(torch.autograd.Function):
    """Weights whose gradient has a part that holds another number."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, number: float) -> Tensor:
        ctx.number = number
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        slope = slope.clone()
        slope[-1, -1, -1] = ctx.number
        return slope, None


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "renalnet" / "convolutions"


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Return a function that writes a number into a part of what dilated convolutions in bfloat16 compute."""
    right = F.conv3d

    def planted(where: str, number: float) -> None:
        def conv3d(x: Tensor, weight: Tensor, *others: Any, **named: Any) -> Tensor:
            is_low = torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16
            if not is_low or (4, 4, 4) not in (*others, *named.values()):
                return right(x, weight, *others, **named)
            if where == "weights" and weight.requires_grad:
                weight = _Spoilt.apply(weight, number)  # type: ignore[no-untyped-call]
            y = right(x, weight, *others, **named)
            if where == "output":
                y.detach()[-1, -1, -1] = number
            return y

        monkeypatch.setattr(F, "conv3d", conv3d)

    return planted


def small_net(name: NetName = "fcn_ppm") -> SegmentationNet:
    return build_net(NetConfig(name=name, width=4, ppm_kernels=(1, 2)), KIDNEY_TUMOR)


def gradient(net: SegmentationNet, device: Device) -> dict[str, Tensor]:
    """Return the gradients of a sum of the logits of random images."""
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    net.train().zero_grad()
    with device.autocast():
        (logits,) = net.training_logits(image)
    logits.float().square().mean().backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("is_training", [True, False])
def test_all_convolutions_are_listed_with_their_shapes(name: NetName, is_training: bool) -> None:
    """The shapes are those that the layers see. A deconvolution is a matrix product in training.

    Dilated layers of 8 channels are trained in float32 on every processor.
    """
    net = small_net(name)
    found = convolutions_of(net, SHAPE, is_training=is_training)
    seen: dict[str, tuple[torch.Size, torch.Size]] = {}
    for key, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
            layer.register_forward_hook(
                lambda layer, inputs, output, key=key: seen.update({key: (inputs[0].shape, output.shape)})
            )
    with torch.set_grad_enabled(is_training):
        net.train(is_training)(torch.zeros(SHAPE))
    listed = {name: (each.input_shape, each.output_shape) for each, names in found.items() for name in names}
    # Those of the pyramid are cropped.
    deconvolutions = {key for key, layer in net.named_modules() if isinstance(layer, nn.ConvTranspose3d)}
    exact = {
        key
        for key, layer in net.named_modules()
        if isinstance(layer, DilatedConvolution) and layer.dilation[0] > 1 and layer.in_channels % 16 and is_training
    }
    assert {key: shapes for key, shapes in listed.items() if key not in deconvolutions} == {
        key: shapes for key, shapes in seen.items() if key in listed and key not in deconvolutions
    }
    assert exact <= set(seen) - set(listed) <= exact | deconvolutions
    assert is_training <= deconvolutions.isdisjoint(listed)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_convolutions_of_the_networks_agree_with_float32(name: NetName) -> None:
    """On this processor, apart from those that are always trained in float32."""
    net = small_net(name)
    for convolution, names in convolutions_of(net, (2, 1, 8, 16, 16), is_training=True).items():
        assert agreement.fault_of(convolution) == "", names


@pytest.mark.parametrize(
    ("where", "number", "fault"),
    [
        ("weights", torch.nan, "gradient of its weights is not finite"),
        ("weights", 1000.0, "gradient of its weights is wrong"),
        ("output", torch.inf, "output is not finite"),
        ("output", 9.0, "output is wrong"),
    ],
)
def test_a_fault_is_named_and_the_layers_compute_in_float32(
    where: str, number: float, fault: str, plant: Callable[[str, float], None], caplog: pytest.LogCaptureFixture
) -> None:
    net = small_net()
    expected = gradient(net, FLOAT32)
    plant(where, number)
    with caplog.at_level(logging.WARNING):
        route_around_faults(net, SHAPE, BFLOAT16, is_training=True)
    (record,) = caplog.records
    assert record.getMessage().endswith(f": {WRONG[0]} ({fault}), {WRONG[1]} ({fault})")
    assert list(layers_in_float32(net)) == WRONG
    found = gradient(net, BFLOAT16)
    assert found.keys() == expected.keys()
    assert all(slope.isfinite().all() for slope in found.values())
    assert max(float(slope.abs().max()) for slope in found.values()) < 100


def test_a_folded_network_is_checked_without_gradients(plant: Callable[[str, float], None]) -> None:
    net = small_net().eval()
    image = torch.randn((1, *SHAPE[1:]), generator=torch.Generator().manual_seed(1))
    copy = folded(net, torch.bfloat16)
    with torch.no_grad():
        expected = net(image)
        plant("weights", torch.nan)
        route_around_faults(copy, image.shape, BFLOAT16, is_training=False)
        assert list(layers_in_float32(copy)) == []
        plant("output", torch.nan)
        other = folded(net, torch.bfloat16)
        route_around_faults(other, (2, *image.shape[1:]), BFLOAT16, is_training=False)
        assert list(layers_in_float32(other)) == [name.replace("body.1", "widen") for name in WRONG]
        with BFLOAT16.autocast():
            found = other(image)
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_results_are_kept_for_the_next_process(
    plant: Callable[[str, float], None], cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("weights", torch.nan)
    route_around_faults(small_net(), SHAPE, BFLOAT16, is_training=True)
    (file,) = cache_folder.iterdir()
    faults = json.loads(file.read_text())["faults"]
    assert [fault for fault in faults.values() if fault] == ["gradient of its weights is not finite"]
    verdicts._verdicts.cache_clear()
    monkeypatch.setattr(verdicts, "faults_of", None)
    net = small_net()
    route_around_faults(net, SHAPE, BFLOAT16, is_training=True)
    assert list(layers_in_float32(net)) == WRONG


@pytest.mark.parametrize("content", ["{", "[]", '{"faults": 3}', '{"faults": {"conv3d": 5}}'])
def test_a_damaged_file_of_results_is_made_again(content: str, cache_folder: Path) -> None:
    net = small_net("unet3d")
    cache_folder.mkdir(parents=True)
    known = verdicts.known_verdicts()
    known._file.write_text(content)
    verdicts._verdicts.cache_clear()
    (first, *_) = convolutions_of(net, (1, 1, 4, 4, 4), is_training=False)
    assert verdicts.known_verdicts().of([first]) == {first: ""}
    assert json.loads(known._file.read_text())["faults"] == {str(first): ""}


def test_a_folder_that_cannot_be_written_is_done_without(cache_folder: Path) -> None:
    cache_folder.parent.mkdir(parents=True)
    cache_folder.write_text("a file in place of the folder")
    (first, *_) = convolutions_of(small_net(), (1, 1, 4, 4, 4), is_training=False)
    assert verdicts.known_verdicts().of([first]) == {first: ""}


def test_what_takes_too_long_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(verdicts, "_LIMIT_S", 0.0)
    net = small_net()
    with caplog.at_level(logging.WARNING):
        route_around_faults(net, SHAPE, BFLOAT16, is_training=True)
    (record,) = caplog.records
    num_kinds = len(convolutions_of(net, SHAPE, is_training=True))
    assert record.getMessage().startswith(f"{num_kinds} of {num_kinds} kinds of convolutions took too long to check")


def test_nothing_is_checked_in_float32(cache_folder: Path, plant: Callable[[str, float], None]) -> None:
    plant("output", torch.nan)
    net = small_net()
    route_around_faults(net, SHAPE, FLOAT32, is_training=True)
    assert list(layers_in_float32(net)) == [] and not cache_folder.exists()


def test_a_layer_in_float32_keeps_its_numbers_and_its_names() -> None:
    net = small_net()
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    names = list(net.state_dict())
    expected = net(image)
    for layer in [layer for layer in net.modules() if isinstance(layer, nn.Conv3d)]:
        compute_in_float32(layer)
        compute_in_float32(layer)
    assert list(net.state_dict()) == names
    assert torch.equal(net(image), expected)
    with BFLOAT16.autocast():
        assert net(image).dtype == torch.bfloat16
    # A copy has weights of its own.
    copy = folded(net, torch.float32)
    copy.head.weight.zero_()
    assert net.head.weight.abs().sum() > 0


@pytest.mark.slow
def test_a_run_trains_around_a_fault_and_resumes_bit_for_bit(
    tiny_train: TrainConfig,
    ball_cohort: Cohort,
    tmp_path: Path,
    plant: Callable[[str, float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_train.model_copy(update={"precision": "bfloat16", "epochs": 1, "max_validation_cases": 1})
    plant("weights", torch.nan)
    whole = TrainingRun(config, ball_cohort, str(tmp_path / "whole"))
    list(whole)
    assert whole.best is not None and whole.best.failure == ""
    stops = iter([False, False, True])
    part = TrainingRun(config, ball_cohort, str(tmp_path / "part"), should_stop=lambda: next(stops, True))
    list(part)
    assert 0 < part.step < whole.step
    caplog.clear()
    rest = TrainingRun(config, ball_cohort, str(tmp_path / "part"))
    list(rest)
    assert "another environment" not in caplog.text
    assert all(torch.equal(value, rest.net.state_dict()[name]) for name, value in whole.net.state_dict().items())
