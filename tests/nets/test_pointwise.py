"""Convolutions with a kernel of one voxel: their numbers, their memory order, and what computes them."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from renalnet.config import KIDNEY_TUMOR, NetConfig
from renalnet.nets import build_net
from renalnet.nets.blocks import PointwiseConvolution


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_values_and_gradients_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    ours = PointwiseConvolution(3, 5)
    theirs = nn.Conv3d(3, 5, 1)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 3, 4, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    found = ours(image)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert found.shape == (2, 5, 4, 6, 8)
    torch.testing.assert_close(found, theirs(image))
    found.square().sum().backward()
    theirs(image).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)  # type: ignore[union-attr]


def test_a_step_of_training_on_one_thread_calls_no_slow_convolution() -> None:
    net = build_net(NetConfig(width=8, ppm_kernels=(1, 2, 4)), KIDNEY_TUMOR).train()
    image = torch.randn(2, 1, 16, 24, 24)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        sum(logits.square().mean() for logits in net.training_logits(image)).backward()  # type: ignore[union-attr]
    called = {event.key for event in recorded.key_averages()}
    assert "aten::mkldnn_convolution" in called
    assert not {name for name in called if "slow_conv" in name}
