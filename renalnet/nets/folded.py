"""A network for inference: each BatchNorm folded into the convolution before it, weights in the format of the sums."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from renalnet.nets.blocks import ConvNorm, SegmentationNet
from renalnet.nets.fused import shift_and_rectify

Net = TypeVar("Net", bound=SegmentationNet)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)


class FoldedConv(nn.Module):
    """A `ConvNorm` in evaluation, to rounding: the norm's scale lies in the weights, its shift is added behind."""

    def __init__(self, source: ConvNorm) -> None:
        super().__init__()
        norm = source.norm
        assert norm.running_mean is not None and norm.running_var is not None, "a norm without running statistics"
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        self.convolution = source.convolution
        weight = self.convolution.weight
        folded = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
        self.convolution.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
        self.register_buffer("shift", (norm.bias.double() - norm.running_mean.double() * scale).float())
        self.rectify = source.rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        return shift_and_rectify(self.convolution(x), self.get_buffer("shift"), residual, rectify=self.rectify)


@torch.no_grad()
def folded(net: Net, dtype: torch.dtype) -> Net:
    """A copy of `net` that computes what `net` computes in evaluation, faster; it cannot be trained.

    Args:
        net: any of the networks; it stays as it is.
        dtype: of the convolutions' weights and of the features, and of the images that it is to be given.
    """
    copy = deepcopy(net).eval()
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConvNorm):
                setattr(parent, name, FoldedConv(child))
    for module in copy.modules():
        if isinstance(module, _CONVOLUTIONS):
            module.to(dtype)
    return copy.requires_grad_(False)
