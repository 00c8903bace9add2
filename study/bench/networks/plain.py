"""Networks rebuilt from PyTorch's own layers, without fused operations, for comparison."""

from copy import deepcopy
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets import SegmentationNet
from renalnet.nets.blocks import ConvNorm, Deconvolution, PointwiseConvolution, crop
from renalnet.nets.folded import replace_modules
from renalnet.nets.ppm import PyramidBranch

_CONVOLUTIONS: Final = (nn.Conv2d, nn.Conv3d)
_LAYOUTS: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


class PlainConvNorm(nn.Module):
    """Convolution, BatchNorm, sum and ReLU as separate operations."""

    def __init__(self, source: ConvNorm) -> None:
        super().__init__()
        self.convolution = source.convolution
        self.norm = source.norm
        self.rectify = source.rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map `x` (B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        y: Tensor = self.norm(self.convolution(x))
        if residual is not None:
            y = y + residual
        return F.relu(y, inplace=True) if self.rectify else y


class PlainDeconvolution(nn.ConvTranspose3d):
    """PyTorch's transposed convolution, with cropping."""

    def __init__(self, source: Deconvolution) -> None:
        kernel = source.kernel_size[0]
        super().__init__(source.in_channels, source.out_channels, kernel, stride=kernel)
        self.load_state_dict(source.state_dict())

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, kernel·D, kernel·H, kernel·W), cropped at the end to `output_size`."""
        whole = super().forward(input)
        return whole if output_size is None else crop(whole, output_size)


def _plain_pointwise(source: PointwiseConvolution) -> nn.Conv3d:
    result = nn.Conv3d(source.in_channels, source.out_channels, 1, bias=source.bias is not None)
    result.load_state_dict(source.state_dict())
    return result


def plain(net: SegmentationNet, *, is_channels_last: bool = False) -> SegmentationNet:
    """Return a copy of `net` with the same parameters and names, and with the same results up to rounding.

    Args:
        net: any network; it is not changed.
        is_channels_last: whether features are in channels-last order; else they are in PyTorch's default order.
    """
    copy = deepcopy(net)
    # Pointwise ones first: a `PlainConvNorm` takes over the convolution of its source.
    replace_modules(copy, PointwiseConvolution, _plain_pointwise)
    replace_modules(copy, ConvNorm, PlainConvNorm)
    replace_modules(copy, Deconvolution, PlainDeconvolution)
    if is_channels_last:
        for parameter in copy.parameters():
            if parameter.ndim in _LAYOUTS:
                parameter.data = parameter.data.contiguous(memory_format=_LAYOUTS[parameter.ndim])
        return copy
    for convolution in _first_in_order(copy):
        convolution.register_forward_pre_hook(_in_usual_order)
    return copy


def _first_in_order(net: SegmentationNet) -> list[nn.Module]:
    """Return the convolutions whose input the networks make channels-last: in the stem, and on the pooled maps."""
    pooled = [module.convolution for module in net.modules() if isinstance(module, PyramidBranch)]
    stems = [module for module in net.modules() if isinstance(module, _CONVOLUTIONS) and module.in_channels == 1]
    return [*stems, *pooled]


def _in_usual_order(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    """Return a copy of the input in PyTorch's default order.

    `contiguous` would not change the strides of an image with one channel, because both orders are the same memory.
    """
    return (inputs[0].clone(memory_format=torch.contiguous_format),)
