"""A folded network computes the same as its source in evaluation."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from support.processors import needs_bfloat16_convolutions
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from renalnet.config import KIDNEY_TUMOR, NETWORKS, NetConfig, NetName
from renalnet.nets import SegmentationNet, blocks, build_net
from renalnet.nets import folded as module_folded
from renalnet.nets.blocks import ConvNorm
from renalnet.nets.folded import FoldedConv, FoldedResidual, folded

SIZES = [(5, 7, 3), (9, 18, 22), (21, 8, 6)]
"""The last one is more than a slab deep at half the resolution, too."""


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained_like(name: NetName, **values: Any) -> SegmentationNet:
    """Return a network in evaluation whose norms have different weights, biases and statistics in each channel.

    Statistics are those of images, so that features keep their scale through the layers.
    """
    net = build_net(NetConfig(name=name, width=6, **values), KIDNEY_TUMOR)
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.momentum = 0.5
        with torch.no_grad():
            norm.weight.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
            norm.bias.copy_(0.5 * torch.randn(norm.num_features, generator=generator))
    with torch.no_grad():
        for seed in range(6):
            net(0.5 + 2 * random((2, 1, 16, 24, 20), seed))
    return net.eval()


def distance(found: Tensor, exact: Tensor) -> float:
    """Return the difference of logits, relative to their spread about the mean of each class."""
    spread = exact - exact.mean(dim=(0, 2, 3, 4), keepdim=True)
    return float((found.double() - exact.double()).norm() / spread.double().norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_bfloat16_under_autocast(name: NetName) -> None:
    """Inference gives the networks an image in float32."""
    net = folded(trained_like(name), torch.bfloat16)
    kinds: set[torch.dtype] = set()
    for module in (module for module in net.modules() if isinstance(module, FoldedConv)):
        module.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = net(random((1, 1, 8, 16, 16), 0))
    assert kinds == {torch.bfloat16} == {logits.dtype}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_float32_is_the_source_to_rounding(name: NetName, size: tuple[int, int, int]) -> None:
    """The error against float64 is at most twice that of the source in float32, or 1e-5 (measured: 3e-7 to 2e-6)."""
    net, image = trained_like(name), random((2, 1, *size), 9)
    exact = deepcopy(net).double()(image.double())
    assert distance(folded(net, torch.float32)(image), exact) < max(2 * distance(net(image), exact), 1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_bfloat16_follows_float32(name: NetName, size: tuple[int, int, int]) -> None:
    """Forty roundings of 2⁻⁹ add up to at most 0.1; measured: 0.02 to 0.05, as with autocast."""
    net, image = trained_like(name), random((2, 1, *size), 9)
    logits = folded(net, torch.bfloat16)(image.to(torch.bfloat16))
    assert logits.dtype == torch.bfloat16
    assert distance(logits, net(image)) < 0.1


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_source_stays_as_it_is(name: NetName) -> None:
    net = trained_like(name)
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copy = folded(net, torch.bfloat16)
    copy(random((1, 1, 8, 16, 16), 0).to(torch.bfloat16))
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    own = {parameter.data_ptr() for parameter in net.parameters()}
    assert not own & {parameter.data_ptr() for parameter in copy.parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_are_of_the_format_and_nothing_learns(name: NetName, dtype: torch.dtype) -> None:
    net = trained_like(name)
    copy = folded(net, dtype)
    convolutions = [m for m in copy.modules() if isinstance(m, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d)]
    assert {parameter.dtype for layer in convolutions for parameter in layer.parameters()} == {dtype}
    assert not copy.training and not any(parameter.requires_grad for parameter in copy.parameters())
    assert not any(isinstance(module, ConvNorm) for module in copy.modules())
    num_norms = sum(isinstance(module, ConvNorm) for module in net.modules())
    shifts = [buffer for key, buffer in copy.named_buffers() if key.endswith("shift")]
    assert len(shifts) == num_norms and {shift.dtype for shift in shifts} == {torch.float32}


@torch.no_grad()
def test_a_fold_by_hand() -> None:
    """(3x − 2) / ½ · 4 + 1 = 24x − 15, for the mean 2 and the standard deviation ½."""
    source = ConvNorm(nn.Conv3d(1, 1, 1, bias=False), rectify=False).eval()
    source.convolution.weight.fill_(3)
    source.norm.eps = 0.0
    for name, value in {"running_mean": 2, "running_var": 0.25, "weight": 4, "bias": 1}.items():
        getattr(source.norm, name).fill_(value)
    copy = FoldedConv(source)
    assert (copy.convolution.weight.item(), copy.get_buffer("shift").item()) == (24.0, -15.0)
    assert copy(torch.ones(1, 1, 1, 1, 2)).flatten().tolist() == [9.0, 9.0]


@needs_bfloat16_convolutions
@pytest.mark.parametrize("kind", ["training", "folded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_keeps_channels_last_memory(name: NetName, kind: str) -> None:
    """The image is contiguous, in bfloat16 as in inference. A cropped map has gaps, but its channels are innermost."""
    net, seen = trained_like(name), {}
    image = random((2, 1, 16, 24, 24), 0)
    assert image.is_contiguous()
    net = net.train() if kind == "training" else folded(net, torch.bfloat16)
    for key, module in net.named_modules():
        if isinstance(module, ConvNorm | FoldedConv | nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(
                lambda module, inputs, output, key=key: seen.update({key: (output.dtype, output.stride(1))})
            )
    if kind == "training":
        with torch.autocast("cpu", torch.bfloat16):
            net.training_logits(image)
    else:
        net(image.to(torch.bfloat16))
    assert len(seen) > 20
    assert {key: value for key, value in seen.items() if value != (torch.bfloat16, 1)} == {}


@pytest.mark.parametrize("depth", [1, 3, 4, 7, 8, 9, 16, 21])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16_convolutions)])
@torch.no_grad()
def test_a_large_feature_passes_slab_by_slab(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, depth: int) -> None:
    """Depths end within a slab, at its end, and below a block's reach. The memory layout is kept to the last slab."""
    blocks = [
        module for module in folded(trained_like("fcn_ppm"), dtype).modules() if isinstance(module, FoldedResidual)
    ]
    assert len({block.widen.convolution.dilation for block in blocks}) > 1
    strides: list[int] = []
    for block in blocks:
        block.restore.register_forward_pre_hook(lambda _, inputs: strides.append(inputs[0].stride(1)))
        image = random((1, block.reduce.convolution.in_channels, depth, 10, 9), depth).to(dtype)
        image = image.contiguous(memory_format=torch.channels_last_3d)
        monkeypatch.setattr(module_folded, "_LARGE_BYTES", 2**24)
        whole = block(image.clone(memory_format=torch.preserve_format))
        monkeypatch.setattr(module_folded, "_LARGE_BYTES", 0)
        by_slab = block(image)
        assert by_slab is image
        torch.testing.assert_close(by_slab, whole, rtol=1e-5 if dtype is torch.float32 else 2e-2, atol=1e-5)
    assert len(strides) == len(blocks) * (1 + -(-depth // 8))
    if dtype is torch.bfloat16:  # as in inference
        assert set(strides) == {1}


class Pools(SegmentationNet):
    """A network with poolings that `FoldedPool` computes, and one that it does not."""

    def __init__(self) -> None:
        super().__init__((1, 1, 1), (1, 1, 1), num_classes=3, head_channels=1)
        self.halves = nn.MaxPool3d(2)
        self.with_indices = nn.MaxPool3d(2, return_indices=True)
        self.of_three = nn.MaxPool3d(3, stride=2, padding=1)


def test_only_a_pooling_by_two_without_indices_is_replaced() -> None:
    kinds = {name: type(child).__name__ for name, child in folded(Pools(), torch.float32).named_children()}
    assert kinds["halves"] == "FoldedPool"
    assert kinds["with_indices"] == kinds["of_three"] == "MaxPool3d"


@pytest.mark.parametrize("num_threads", [1, 2])
@torch.no_grad()
def test_a_folded_network_in_float32_calls_no_slow_convolution(num_threads: int) -> None:
    """Slabs are the small maps of a single image that PyTorch computes without oneDNN."""
    net = folded(trained_like("fcn_ppm", ppm_kernels=(1, 2, 4)), torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            net(random((1, 1, 24, 32, 32), 3))
    finally:
        torch.set_num_threads(before)
    called = {event.key for event in recorded.key_averages()}
    assert "aten::mkldnn_convolution" in called
    assert not {name for name in called if "slow_conv" in name}


@torch.no_grad()
def test_a_folded_network_is_the_same_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    net = folded(trained_like("fcn_ppm"), torch.float32)
    image = random((1, 1, 24, 32, 32), 3)
    expected = net(image)
    monkeypatch.setattr(blocks, "_is_for_onednn", lambda _: False)
    assert distance(net(image), expected) < 1e-5
