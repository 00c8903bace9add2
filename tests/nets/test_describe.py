from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from renalnet.config import KIDNEY_TUMOR, KITS23, NETWORKS, NetConfig
from renalnet.nets import build_net
from renalnet.nets.blocks import POOL, PathLayer, SegmentationNet, convolution_layer
from renalnet.nets.describe import describe, equal_cost_width, meta_net, multiply_adds, receptive_length


def test_counts_of_the_papers_network():
    config = NetConfig()
    description = describe(config, KIDNEY_TUMOR, (64, 150, 150))
    assert (description.num_residual_blocks, description.num_block_convolutions) == (13, 39)
    assert description.num_parameters == sum(p.numel() for p in build_net(config, KIDNEY_TUMOR).parameters())
    assert sum(layer.kind == "MaxPool3d" for layer in description.layers) == 2
    assert [layer.size for layer in description.layers if layer.kind == "MaxPool3d"] == [
        (32, 76, 76),
        (16, 38, 38),
    ]
    assert any("dilations" in line.lower() for line in description.assumptions)


def test_multiply_adds_by_hand():
    """The stem has 12·8·8 voxels, 4 channels and 27 taps, the head the same voxels and 4 to 3 channels."""
    layers = {layer.name: layer for layer in describe(NetConfig(width=4), KIDNEY_TUMOR, (12, 8, 8)).layers}
    assert layers["stem.convolution"].multiply_adds == 768 * 4 * 27
    assert layers["head"].multiply_adds == 768 * 4 * 3
    # 6·4·4 voxels of 8 channels, each written to 2³ voxels of 4 channels.
    assert layers["to_full.deconvolution"].multiply_adds == 96 * 8 * 8 * 4


def test_another_label_costs_a_channel_of_the_head():
    """The head has 12·8·8 voxels and 4 channels, to 4 classes instead of 3. It has 4 more weights and a bias."""
    config = NetConfig(width=4)
    three, four = (describe(config, labels, (12, 8, 8)) for labels in (KIDNEY_TUMOR, KITS23))
    assert four.layers[-1].multiply_adds == 768 * 4 * 4
    assert four.num_parameters - three.num_parameters == 5
    added = multiply_adds(config, KITS23, (12, 8, 8)) - multiply_adds(config, KIDNEY_TUMOR, (12, 8, 8))
    assert added == 768 * 4


def test_training_memory_grows_with_the_voxels():
    small, large = (
        describe(NetConfig(width=4, ppm_kernels=()), KIDNEY_TUMOR, shape) for shape in ((16, 16, 16), (32, 32, 16))
    )
    assert large.training_memory_mb == pytest.approx(4 * small.training_memory_mb, rel=0.01)


def test_training_memory_holds_what_a_backward_pass_needs():
    """The stem of 4 channels keeps at least its image, its convolution and its BatchNorm, in float32."""
    description = describe(NetConfig(width=4), KIDNEY_TUMOR, (64, 64, 64))
    assert description.training_memory_mb > (1 + 4 + 4) * 4 * 64**3 / 2**20


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ([convolution_layer(), convolution_layer(dilation=4)], 11),
        ([POOL, convolution_layer(), PathLayer("upsample", 2)], 6),
        ([POOL, convolution_layer(), PathLayer("upsample", 2), convolution_layer()], 8),
        ([convolution_layer(), PathLayer("cells", 4)], 6),
        ([PathLayer("cells", 4), convolution_layer()], 8),
        ([POOL, PathLayer("interpolate", 2)], 4),
        ([convolution_layer(), PathLayer("whole")], None),
    ],
)
def test_receptive_length_by_hand(path, length):
    assert receptive_length(path) == length


def probe(config, length):
    """Return the largest number of voxels along x with a gradient, over output positions in the middle."""
    net = build_net(config, KIDNEY_TUMOR).eval().double()  # positive weights, so that no two paths cancel or vanish
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    for pool in (module for module in net.modules() if isinstance(module, nn.MaxPool3d)):
        pool.forward = lambda x: nn.functional.avg_pool3d(x, 2)  # a maximum has a gradient at one voxel only
    x = torch.ones(1, 1, 8, 8, length, dtype=torch.float64, requires_grad=True)
    logits = net(x)[0].sum((0, 1, 2))
    middle = range(length // 2, length // 2 + 8)
    gradients = (torch.autograd.grad(logits[i], x, retain_graph=True)[0] for i in middle)
    return max(int(g.abs().sum((0, 1, 2, 3)).count_nonzero()) for g in gradients)


@pytest.mark.parametrize("dilations", [(1,), (1, 2)])
@pytest.mark.parametrize("kernels", [(), (2,)])
def test_receptive_field_is_what_gradients_reach(dilations, kernels):
    config = NetConfig(width=4, encoder_blocks=(1, 1, len(dilations)), dilations=dilations, ppm_kernels=kernels)
    description = describe(config, KIDNEY_TUMOR, (8, 8, 80))
    assert description.receptive_field_pooled[2] == probe(config, 80)
    assert description.receptive_field[2] == probe(config.model_copy(update={"ppm_kernels": ()}), 80)


@pytest.mark.parametrize(("blocks", "skip"), [((1, 1), "gefm"), ((1, 0, 0, 1), "plain")])
def test_receptive_field_of_other_poolings_is_what_gradients_reach(blocks: tuple[int, ...], skip: Any) -> None:
    config = NetConfig(width=4, encoder_blocks=blocks, dilations=(1,), ppm_kernels=(), skip=skip)
    assert describe(config, KIDNEY_TUMOR, (8, 8, 80)).receptive_field[2] == probe(config, 80)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"skip": "plain"}, "Plain skips: "),
        ({"skip": "plain"}, "Blocks at full, half, quarter resolution: 2, 3, 6; 0 in the decoder."),
        ({"encoder_blocks": (2, 6)}, "Dilations at half resolution: 1, 1, 2, 2, 4, 4."),
        ({"encoder_blocks": (2, 6)}, "An input is padded to multiples of 2, at least 6×4×4, "),
    ],
)
def test_assumptions_are_those_of_the_configuration(values: dict[str, Any], sentence: str) -> None:
    assumptions = meta_net(NetConfig(width=4, **values), KIDNEY_TUMOR).assumptions()
    assert any(each.startswith(sentence) for each in assumptions)


@pytest.mark.slow
def test_receptive_field_of_the_3d_u_net_is_what_gradients_reach():
    config = NetConfig(name="unet3d", width=4)
    assert describe(config, KIDNEY_TUMOR, (8, 8, 128)).receptive_field[2] == probe(config, 128)


def test_receptive_field_of_the_2d_network_is_its_slice():
    description = describe(NetConfig(name="pspnet2d"), KIDNEY_TUMOR, (8, 20, 24))
    assert description.receptive_field_pooled == (1, 20, 24)


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_cost_width_is_the_nearest_even_one(name):
    reference, shape = NetConfig(width=14), (8, 16, 32)
    found = equal_cost_width(name, reference, KIDNEY_TUMOR, shape)
    target = multiply_adds(reference, KIDNEY_TUMOR, shape)
    beside = [w for w in (found - 2, found, found + 2) if w >= 4]
    gaps = {w: abs(multiply_adds(NetConfig(name=name, width=w), KIDNEY_TUMOR, shape) - target) for w in beside}
    assert found == min(gaps, key=gaps.get)


def test_a_network_that_does_not_scale_keeps_the_width(monkeypatch):
    entry = replace(NETWORKS["unet3d"], scales_with_width=False)
    monkeypatch.setattr("renalnet.nets.describe.NETWORKS", {**NETWORKS, "unet3d": entry})
    assert equal_cost_width("unet3d", NetConfig(width=14), KIDNEY_TUMOR, (8, 16, 32)) == 14


def test_a_pooling_that_returns_indices_is_described(monkeypatch):
    """SegNet's pooling: 12·8·8 voxels to half of them on each axis."""

    class Pooled(SegmentationNet):
        def __init__(self, config, num_classes):
            super().__init__((2, 2, 2), (2, 2, 2), num_classes, head_channels=1)
            self.pool = nn.MaxPool3d(2, return_indices=True)

        def features(self, image):
            return [self.pool(image)[0]]

        def path(self):
            return (POOL,)

    monkeypatch.setattr("renalnet.nets.describe.builder_of", lambda name: Pooled)
    (pool, _) = describe(NetConfig(), KIDNEY_TUMOR, (12, 8, 8)).layers
    assert (pool.kind, pool.size, pool.multiply_adds) == ("MaxPool3d", (6, 4, 4), 0)


def flops_of_onednn(image, weight, *_, out_shape, **__):
    return conv_flop_count(image, weight, out_shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_that_pytorch_counts(name):
    """Each is two operations. Only without gradients are deconvolutions an operation that PyTorch counts."""
    config = NetConfig(name=name, width=4, ppm_kernels=())
    counted = {torch.ops.aten.mkldnn_convolution: flops_of_onednn}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        build_net(config, KIDNEY_TUMOR).eval()(torch.zeros(1, 1, 24, 32, 40))
    assert 2 * multiply_adds(config, KIDNEY_TUMOR, (24, 32, 40)) == counter.get_total_flops()


def kept_mb(config, shape, bfloat16):
    """Return the mebibytes that a real training step keeps for its backward pass, without weights."""
    net, kept = build_net(config, KIDNEY_TUMOR), {}
    own = {parameter.data_ptr() for parameter in net.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        outputs = net.training_logits(torch.randn(1, 1, *shape))
    assert outputs
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own) / 2**20


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_memory_is_what_a_step_keeps(name, bfloat16):
    """The estimate is exact in float32. Autocast also keeps copies of the weights, at most six bytes each."""
    description = describe(NetConfig(name=name, width=8), KIDNEY_TUMOR, (24, 32, 40))
    kept = kept_mb(description.config, description.shape, bfloat16)
    if bfloat16:
        estimate, copies = description.training_memory_bfloat16_mb, 6 * description.num_parameters / 2**20
        assert estimate <= kept <= 1.05 * estimate + copies
    else:
        assert description.training_memory_mb == pytest.approx(kept)
