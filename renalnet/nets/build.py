"""Building of the network of a configuration, with its first weights."""

from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Final

import torch
from torch import nn

from renalnet.config import LabelSet, LossConfig, NetConfig
from renalnet.config.networks import entry_of
from renalnet.config.paper import PAPER_SHARES
from renalnet.nets.blocks import Deconvolution, SegmentationNet
from renalnet.nets.ppm import PyramidBranch

_SMALL_SHARE: Final = 0.005
"""Share of a label beyond the paper's: a cyst or a vessel is a small part of an ROI (reconstruction)."""


def builder_of(name: str) -> Callable[[NetConfig, int], SegmentationNet]:
    """Return the class of the network `name`, imported now. Raises ConfigError for an unknown name."""
    builder: Callable[[NetConfig, int], SegmentationNet] = resolve_name(entry_of(name).builder)
    return builder


def build_net(config: NetConfig, labels: LabelSet, seed: int = 0) -> SegmentationNet:
    """Return the network of `config` with a class for background and each label, and weights drawn from `seed`.

    Raises:
        ConfigError: no network is named `config.name`.
    """
    shares = [PAPER_SHARES.get(name, _SMALL_SHARE) for name in labels.class_names]
    weights = LossConfig().weights(labels)
    return build_net_of_classes(config, [share * weight for share, weight in zip(shares, weights, strict=True)], seed)


def build_net_of_classes(config: NetConfig, shares: Sequence[float], seed: int) -> SegmentationNet:
    """Return the network of `config` with a class for each of `shares`, and weights drawn from `seed`.

    `shares` are the expected shares of the classes, background first, up to a factor; the network begins by predicting
    them everywhere.

    Raises:
        ConfigError: no network is named `config.name`.
    """
    net = builder_of(config.name)(config, len(shares))
    _draw_weights(net, torch.tensor(shares), torch.Generator().manual_seed(seed))
    return net


def _draw_weights(net: SegmentationNet, shares: torch.Tensor, generator: torch.Generator) -> None:
    """Draw the weights. BatchNorm starts as the identity; biases start at zero, except for two kinds of layers."""
    # Means of rectified features hardly vary, so that a pyramid's channel that starts below zero would stay at zero.
    pooled = [module.convolution for module in net.modules() if isinstance(module, PyramidBranch)]
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.normal_(module.weight, std=_spread(module), generator=generator)
            if module.bias is not None:
                nn.init.constant_(module.bias, 1.0 if module in pooled else 0.0)
    # The heads start at the constant prediction with the lowest loss, which they would otherwise learn first.
    with torch.no_grad():
        for head in (net.head, *net.auxiliary_heads):
            head.get_parameter("bias").copy_((shares / shares.sum()).log())


def _spread(module: nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d) -> float:
    """Return the standard deviation of the initial weights.

    Deconvolutions have that of He et al. (2015), over their input channels only. Convolutions have PyTorch's smaller
    1/√(3·fan-in): BatchNorm undoes their scale, and small weights change direction faster at the same learning rate.
    """
    # The cells do not overlap, so that an output voxel is a sum over the input channels alone.
    if isinstance(module, Deconvolution):
        return float((2 / module.in_channels) ** 0.5)
    return float((3 * module.weight[0].numel()) ** -0.5)
