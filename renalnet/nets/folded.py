"""A network for inference: each BatchNorm folded into the convolution before it, weights in the format of the sums."""

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from renalnet.nets.blocks import ConvNorm, GraduallyEnhancedFeature, SegmentationNet
from renalnet.nets.fused import shift_and_rectify

Net = TypeVar("Net", bound=SegmentationNet)
Module = TypeVar("Module", bound=nn.Module)
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


class FoldedFeature(nn.Module):
    """A `GraduallyEnhancedFeature` whose `fusion` is folded, to rounding, without joining its inputs.

    The fusion is linear up to its ReLU, so that its part for the deeper feature goes into the deconvolution's weights.
    """

    def __init__(self, source: GraduallyEnhancedFeature) -> None:
        super().__init__()
        deconvolution, fusion = source.deconvolution, source.fusion
        assert isinstance(fusion, FoldedConv) and deconvolution.bias is not None, "a fusion that is not folded"
        joined = fusion.convolution.weight
        of_deep, of_skip = joined[:, : deconvolution.out_channels], joined[:, deconvolution.out_channels :]
        mixing = of_deep.flatten(1)
        self.register_buffer("shift", fusion.get_buffer("shift") + mixing @ deconvolution.bias)
        deconvolution.weight = nn.Parameter(torch.einsum("idzyx,od->iozyx", deconvolution.weight, mixing).contiguous())
        deconvolution.bias = None
        self.deconvolution = deconvolution
        self.convolution = nn.Conv3d(of_skip.shape[1], of_skip.shape[0], 1, bias=False)
        self.convolution.weight = nn.Parameter(of_skip.contiguous())
        self.enhancement = source.enhancement

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """As `GraduallyEnhancedFeature.forward`."""
        fused = shift_and_rectify(self.convolution(skip), self.get_buffer("shift"), self.deconvolution(deep))
        enhanced: Tensor = self.enhancement(fused)
        return enhanced


@torch.no_grad()
def folded(net: Net, dtype: torch.dtype) -> Net:
    """A copy of `net` that computes what `net` computes in evaluation, faster; it cannot be trained.

    Args:
        net: any of the networks; it stays as it is.
        dtype: of the convolutions' weights and of the features, and of the images that it is to be given.
    """
    copy = deepcopy(net).eval()
    _replace(copy, ConvNorm, FoldedConv)
    _replace(copy, GraduallyEnhancedFeature, FoldedFeature)
    for module in copy.modules():
        if isinstance(module, _CONVOLUTIONS):
            module.to(dtype)
    return copy.requires_grad_(False)


def _replace(net: nn.Module, kind: type[Module], by: Callable[[Module], nn.Module]) -> None:
    """Every module of a kind by another made of it, in place."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, by(child))
