"""Properties of every network, and those of 3D_FCN_PPM that the paper names."""

from typing import Any

import pytest
import torch
from support.label_sets import VESSELS
from support.processors import needs_bfloat16_convolutions
from torch import nn

from renalnet.config import KIDNEY_TUMOR, KITS23, NETWORKS, LabelSet, NetConfig, NetName
from renalnet.errors import ConfigError
from renalnet.nets import PyramidPooling, ResidualBlock, build_net
from renalnet.nets.folded import folded

SIZES = [(1, 1, 1), (5, 7, 3), (9, 16, 13), (8, 18, 22)]


def net_of(name="fcn_ppm", **values):
    return build_net(NetConfig(name=name, width=4, **values), KIDNEY_TUMOR)


def test_the_papers_network_has_13_blocks_39_convolutions_and_2_poolings():
    pooled_to = []
    net = build_net(NetConfig(), KIDNEY_TUMOR)
    net.pool.register_forward_hook(lambda module, inputs, output: pooled_to.append(tuple(output.shape[2:])))
    net.eval()(torch.zeros(1, 1, 8, 16, 24))
    blocks = [module for module in net.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 13
    assert sum(isinstance(m, nn.Conv3d) for block in blocks for m in block.body.modules()) == 39
    assert pooled_to == [(6, 8, 12), (3, 4, 6)]


@pytest.mark.parametrize("kernels", [(), (3,), (2, 4, 8, 16), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("dilations", [(), (1, 1, 2, 2, 4, 4), (3, 1)])
def test_kernels_and_dilations_are_as_set(kernels, dilations):
    net = net_of(encoder_blocks=(1, 0, len(dilations)), dilations=dilations, ppm_kernels=kernels)
    assert tuple(block.body[1].convolution.dilation[0] for block in net.at_quarter) == dilations
    assert tuple(branch.kernel for branch in net.pyramid.branches) == kernels
    assert net(torch.zeros(1, 1, 8, 8, 12)).shape == (1, 3, 8, 8, 12)


def test_the_module_sits_at_quarter_resolution():
    net = net_of()
    seen = []
    module = next(m for m in net.modules() if isinstance(m, PyramidPooling))
    module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    net(torch.zeros(1, 1, 12, 16, 20))
    assert seen == [(1, 16, 3, 4, 5)]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"skip": "plain"},
    "one pooling": {"encoder_blocks": (1, 3), "dilations": (1, 2, 4)},
    "three poolings": {"encoder_blocks": (2, 1, 1, 2), "dilations": (1, 2), "deep_supervision": True},
    "no pyramid, dilation 1": {"ppm_kernels": (), "dilations": (1,) * 6},
}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_a_variant_trains_and_folds_as_the_papers_network_does(values: dict[str, Any]) -> None:
    net = net_of(**values)
    image = torch.randn(2, 1, 9, 18, 13, generator=torch.Generator().manual_seed(1))
    outputs = net.training_logits(image)
    assert {tuple(logits.shape) for logits in outputs} == {(2, 3, 9, 18, 13)}
    assert len(outputs) == (4 if net.auxiliary_heads else 1)
    sum(logits.square().mean() for logits in outputs).backward()
    assert [key for key, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []
    with torch.no_grad():
        expected = net.eval()(image)
        torch.testing.assert_close(folded(net, torch.float32)(image), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("encoder_blocks", "sizes", "channels"),
    [((2, 9), [(12, 16, 16)], 8), ((2, 3, 2, 6), [(12, 16, 16), (6, 8, 8), (3, 4, 4)], 32)],
    ids=["one", "three"],
)
def test_each_pooling_halves_the_map_and_doubles_the_channels(encoder_blocks, sizes, channels):
    net = net_of(encoder_blocks=encoder_blocks, dilations=(1,) * encoder_blocks[-1])
    pooled_to, widths = [], []
    net.pool.register_forward_hook(lambda module, inputs, output: pooled_to.append(tuple(output.shape[2:])))
    net.pyramid.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[1]))
    net(torch.zeros(1, 1, 24, 32, 32))
    assert (pooled_to, widths) == (sizes, [channels])


@pytest.mark.parametrize(
    ("values", "num_parameters"),
    [
        # A block of c channels has c·c/2 + (c/2)²·27 + c/2·c weights and 2·(c/2 + c/2 + c) of its norms. Those of the
        # decoder have 8 channels, 528 parameters, and 4 channels, 140 parameters.
        ({"skip": "plain"}, -668),
        # A branch of kernel k: 16·4 + 4 and 4·4·k³ + 4. The next deconvolution has 4·8·2³ weights for it.
        ({"ppm_kernels": (2, 4, 8)}, -(68 + 16 * 16**3 + 4 + 256)),
        ({"dilations": (1,) * 6}, 0),
    ],
    ids=["plain", "three branches", "dilation 1"],
)
def test_parameters_of_a_part_by_hand(values: dict[str, Any], num_parameters: int) -> None:
    own, papers = (sum(p.numel() for p in net_of(**each).parameters()) for each in (values, {}))
    assert own - papers == num_parameters


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_trains_in_a_batch_of_one(name, size):
    net = net_of(name)
    outputs = net.training_logits(torch.randn(1, 1, *size))
    assert [tuple(logits.shape) for logits in outputs] == [(1, 3, *size)]
    outputs[0].square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("kernels", [(), (1,), (3, 5), (2, 4, 8, 16), (64,)])
@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_any_kernels(kernels, size):
    assert net_of(ppm_kernels=kernels)(torch.randn(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", NETWORKS)
def test_batched_equals_single(name):
    net = net_of(name).eval()
    x = torch.randn(3, 1, 9, 12, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = net(x)
        alone = torch.cat([net(image[None]) for image in x])
    assert (together - alone).abs().max() < 1e-5 * alone.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_parameter(name):
    net = net_of(name, deep_supervision=True)
    x = torch.randn(2, 1, 16, 24, 24, generator=torch.Generator().manual_seed(1))
    sum(logits.square().mean() for logits in net.training_logits(x)).backward()
    silent = [key for key, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_follows_float32(name):
    net = net_of(name).eval()
    x = torch.randn(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = net(x).float()
        with torch.autocast("cpu", enabled=False):
            full = net(x)
    assert (half - full).abs().max() < 0.05 * full.abs().max()


def test_deep_supervision_adds_half_and_quarter_resolution_while_training_only():
    net = net_of(deep_supervision=True)
    x = torch.randn(1, 1, 9, 10, 11)
    outputs = net.training_logits(x)
    assert [tuple(logits.shape) for logits in outputs] == [(1, 3, 9, 10, 11)] * 3
    net.eval()
    assert torch.equal(net(x), net.training_logits(x)[0])


@needs_bfloat16_convolutions
def test_features_stay_in_channels_last_memory():
    net = net_of()
    strides = []
    for block in (module for module in net.modules() if isinstance(module, ResidualBlock)):
        block.register_forward_hook(
            lambda module, inputs, output: strides.append(output.is_contiguous(memory_format=torch.channels_last_3d))
        )
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.zeros(1, 1, 16, 16, 16))
    assert strides == [True] * 13


def test_slices_do_not_see_each_other_in_the_2d_network():
    net = net_of("pspnet2d").eval()
    x = torch.randn(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[:, :, 1] = 0
    same = (net(x) == net(changed)).flatten(3).all(3).all(1)
    assert same.tolist() == [[True, False, True]]


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_follow_from_the_seed_alone(name):
    config = NetConfig(name=name, width=4)
    torch.manual_seed(1)
    first = build_net(config, KIDNEY_TUMOR, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = (
        build_net(config, KIDNEY_TUMOR, seed=3).state_dict(),
        build_net(config, KIDNEY_TUMOR, seed=4).state_dict(),
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_heads_start_at_the_papers_weighted_shares():
    """Shares 0.8064, 0.1693, 0.0243 times weights 0.2, 1, 2, divided by their sum 0.37918."""
    net = net_of(deep_supervision=True)
    for head in (net.head, *net.auxiliary_heads):
        assert head.bias.exp().tolist() == pytest.approx([0.42534, 0.44649, 0.12817], abs=1e-5)


def test_a_label_beyond_the_papers_starts_as_a_small_one():
    """Shares 0.8064, 0.1693, 0.0243, 0.005 times weights 0.2, 1, 2, 2, divided by their sum 0.38918."""
    net = build_net(NetConfig(width=4), KITS23)
    assert net.head.bias.exp().tolist() == pytest.approx([0.41441, 0.43502, 0.12488, 0.02570], abs=1e-5)


@pytest.mark.parametrize(("labels", "num_classes"), [(KITS23, 4), (VESSELS, 6)], ids=["kits23", "vessels"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_a_class_for_background_and_each_label(name: NetName, labels: LabelSet, num_classes: int) -> None:
    net = build_net(NetConfig(name=name, width=4, deep_supervision=True), labels)
    image = torch.randn(2, 1, 9, 16, 13, generator=torch.Generator().manual_seed(1))
    outputs = net.training_logits(image)
    assert {tuple(logits.shape) for logits in outputs} == {(2, num_classes, 9, 16, 13)}
    sum(logits.square().mean() for logits in outputs).backward()
    assert (net.head.weight.grad.abs().sum(dim=(1, 2, 3, 4)) > 0).tolist() == [True] * num_classes
    with torch.no_grad():
        expected = net.eval()(image)
        torch.testing.assert_close(folded(net, torch.float32)(image), expected, atol=1e-4, rtol=1e-4)


def test_weights_are_contiguous_as_weight_files_need_them():
    assert all(value.is_contiguous() for value in net_of().state_dict().values())


def test_unknown_name_lists_the_nearest():
    config = NetConfig.model_construct(name="unet2d", width=4)
    with pytest.raises(ConfigError, match=r"'unet2d' is no network; did you mean 'unet3d'\?"):
        build_net(config, KIDNEY_TUMOR)


@pytest.mark.parametrize("name", ["fcn_ppm", "unet3d"])
@pytest.mark.parametrize("depth", [1, 4, 8, 12, 16])
def test_bfloat16_gradients_of_flat_inputs_agree_with_float32(name: NetName, depth: int) -> None:
    """With two slices in the coarsest map, oneDNN returned gradients from memory that was never written."""
    net = build_net(NetConfig(name=name, width=8), KIDNEY_TUMOR).train()
    image = torch.randn(2, 1, depth, 16, 16, generator=torch.Generator().manual_seed(0))
    norms = []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = net(image)
        logits.float().square().mean().backward()
        norms.append([p.grad.norm().item() for p in net.parameters() if p.grad is not None])
    plain, low = (torch.tensor(values) for values in norms)
    assert low.isfinite().all()
    assert (low - plain).norm() < 0.5 * plain.norm()
