"""A network of ours rebuilt of PyTorch's own layers, each run by itself: what ours is compared with."""

from copy import deepcopy
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets import SegmentationNet
from renalnet.nets.blocks import ConvNorm, Deconvolution, crop
from renalnet.nets.ppm import PyramidBranch

_CONVOLUTIONS: Final = (nn.Conv2d, nn.Conv3d)
_LAYOUTS: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


class PlainConvNorm(nn.Module):
    """Convolution, BatchNorm, sum and ReLU, one after the other."""

    def __init__(self, source: ConvNorm) -> None:
        super().__init__()
        self.convolution, self.norm, self.rectify = source.convolution, source.norm, source.rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        y: Tensor = self.norm(self.convolution(x))
        if residual is not None:
            y = y + residual
        return F.relu(y, inplace=True) if self.rectify else y


class PlainDeconvolution(nn.ConvTranspose3d):
    """PyTorch's transposed convolution, cropped."""

    def __init__(self, source: Deconvolution) -> None:
        kernel = source.kernel_size[0]
        super().__init__(source.in_channels, source.out_channels, kernel, stride=kernel)
        self.load_state_dict(source.state_dict())

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in, D, H, W) to (B, out, kernel·D, kernel·H, kernel·W), cropped at the end to `output_size`."""
        whole = super().forward(input)
        return whole if output_size is None else crop(whole, output_size)


def plain(net: SegmentationNet, *, is_channels_last: bool = False) -> SegmentationNet:
    """A copy of `net` with the same parameters under the same names, and the same results to rounding.

    Args:
        net: any of the networks; it stays as it is.
        is_channels_last: keep features in channels-last order, else in PyTorch's usual one.
    """
    copy = deepcopy(net)
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConvNorm):
                setattr(parent, name, PlainConvNorm(child))
            elif isinstance(child, Deconvolution):
                setattr(parent, name, PlainDeconvolution(child))
    if is_channels_last:
        for parameter in copy.parameters():
            if parameter.ndim in _LAYOUTS:
                parameter.data = parameter.data.contiguous(memory_format=_LAYOUTS[parameter.ndim])
        return copy
    for convolution in _first_in_order(copy):
        convolution.register_forward_pre_hook(_in_usual_order)
    return copy


def _first_in_order(net: SegmentationNet) -> list[nn.Module]:
    """The convolutions whose input our networks lay out channels-last: the stem's, and those of the pooled maps."""
    pooled = [module.convolution for module in net.modules() if isinstance(module, PyramidBranch)]
    stems = [module for module in net.modules() if isinstance(module, _CONVOLUTIONS) and module.in_channels == 1]
    return [*stems, *pooled]


def _in_usual_order(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    """A copy, for with one channel PyTorch takes channels-last for its usual order and leaves the strides."""
    return (inputs[0].clone(memory_format=torch.contiguous_format),)
