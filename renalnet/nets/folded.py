"""Networks for inference: each BatchNorm is folded into the convolution before it, and memory is reused."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets.blocks import (
    ConvNorm,
    GraduallyEnhancedFeature,
    PointwiseConvolution,
    ResidualBlock,
    SegmentationNet,
    convolve,
)
from renalnet.nets.fused import shift_and_rectify

Net = TypeVar("Net", bound=SegmentationNet)
Module = TypeVar("Module", bound=nn.Module)
_SLAB = 8
"""Slices processed at once on a CPU. What one layer writes is still in the cache for the next, and memory holds one
feature only."""
_LARGE_BYTES = 2**24
"""Size of a feature from which slabs are faster. Smaller features fit into the cache as a whole."""
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)


class FoldedConv(nn.Module):
    """A `ConvNorm` in evaluation, equal up to rounding. The weights include the norm's scale; its shift is added."""

    def __init__(self, source: ConvNorm) -> None:
        super().__init__()
        norm = source.norm
        assert norm.running_mean is not None and norm.running_var is not None, "a norm without running statistics"
        # In float64, so that the folding itself rounds only once.
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        self.convolution = source.convolution
        weight = self.convolution.weight
        folded = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
        self.convolution.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
        # Not a bias: `shift_and_rectify` adds it in float32, in one pass with the residual and the ReLU.
        self.register_buffer("shift", (norm.bias.double() - norm.running_mean.double() * scale).float())
        self.rectify = source.rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map `x` (B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        y = convolve(self.convolution, x) if isinstance(self.convolution, nn.Conv3d) else self.convolution(x)
        return shift_and_rectify(y, self.get_buffer("shift"), residual, rectify=self.rectify)


class FoldedFeature(nn.Module):
    """A `GraduallyEnhancedFeature` with folded `fusion`, equal up to rounding, that does not concatenate its inputs.

    The fusion is linear up to its ReLU, so that its part for the deeper feature is merged into the deconvolution.
    """

    def __init__(self, source: GraduallyEnhancedFeature) -> None:
        super().__init__()
        deconvolution = source.deconvolution
        fusion = source.fusion
        assert isinstance(fusion, FoldedConv) and deconvolution.bias is not None, "a fusion that is not folded"
        joined = fusion.convolution.weight
        mixing = joined[:, : deconvolution.out_channels].flatten(1)
        of_skip = joined[:, deconvolution.out_channels :]
        # The deconvolution's bias is the same at every voxel, so that after the fusion it is part of the shift.
        self.register_buffer("shift", fusion.get_buffer("shift") + mixing @ deconvolution.bias)
        deconvolution.weight = nn.Parameter(torch.einsum("idzyx,od->iozyx", deconvolution.weight, mixing).contiguous())
        deconvolution.bias = None
        self.deconvolution = deconvolution
        self.convolution = PointwiseConvolution(of_skip.shape[1], of_skip.shape[0], bias=False)
        self.convolution.weight = nn.Parameter(of_skip.contiguous())
        self.enhancement = source.enhancement

    def of_skip(self, skip: Tensor) -> Tensor:
        """Return the fusion's part for the encoder's feature, in the memory of `skip` if it has as many channels."""
        if self.convolution.in_channels != self.convolution.out_channels:
            return convolve(self.convolution, skip)
        # A 1×1×1 convolution reads no other voxels, so that a slab can be overwritten before the next one is read.
        for slab in _slabs(skip):
            slab.copy_(convolve(self.convolution, slab))
        return skip

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Compute `GraduallyEnhancedFeature.forward`; `skip` is overwritten."""
        first = 0
        for slab in _slabs(deep):
            part = self.deconvolution(slab)
            shift_and_rectify(skip[:, :, first : first + part.shape[2]], self.get_buffer("shift"), part)
            first += part.shape[2]
        enhanced: Tensor = self.enhancement(skip)
        return enhanced


class FoldedResidual(nn.Module):
    """A folded `ResidualBlock` without projection that writes a large result over its input, slab by slab.

    The middle convolution reads slices beyond the slab, as many as its dilation. The first convolution's output there
    is kept for the next slab, so that nothing is computed twice and an overwritten slice is not read again.
    """

    def __init__(self, source: ResidualBlock) -> None:
        super().__init__()
        reduce, widen, restore = source.body
        assert isinstance(widen, FoldedConv) and source.projection is None, "a block that is not folded, or widens"
        self.reduce = reduce
        self.widen = widen
        self.restore = restore

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (B, C, D, H, W) to the same shape; `x` is overwritten if it is large."""
        if x.nbytes < _LARGE_BYTES:
            y: Tensor = self.restore(self.widen(self.reduce(x)), x)
            return y
        return self._by_slabs(x)

    def _by_slabs(self, x: Tensor) -> Tensor:
        reach = self.widen.convolution.dilation[0]
        start = self.reduce(x[:, :, :reach])
        # The middle convolution pads with zeros. Both parts must be channels-last, or the concatenation is not.
        beyond = start.new_zeros((*start.shape[:2], reach, *start.shape[3:]))
        beyond = beyond.contiguous(memory_format=torch.channels_last_3d)
        known = torch.cat([beyond, start], dim=2)
        first = 0
        for slab in _slabs(x):
            end = first + slab.shape[2]
            seen = self._reduced(known, x[:, :, first + reach : end + reach], beyond, end - first + 2 * reach)
            known = seen[:, :, -2 * reach :]
            slab.copy_(self.restore(self._widened(seen), slab))
            first = end
        return x

    def _reduced(self, known: Tensor, ahead: Tensor, beyond: Tensor, length: int) -> Tensor:
        """Return `length` slices of the first convolution: known ones, those `ahead`, and zeros beyond the last one."""
        parts = [known]
        if ahead.shape[2]:
            parts.append(self.reduce(ahead))
        missing = length - sum(part.shape[2] for part in parts)
        if missing:  # concatenation with an empty part would lose the memory layout
            parts.append(beyond[:, :, :missing])
        return torch.cat(parts, dim=2)

    def _widened(self, seen: Tensor) -> Tensor:
        """Return the middle convolution of the slices that have all their neighbors in `seen`."""
        convolution = self.widen.convolution
        assert isinstance(convolution, nn.Conv3d), "a block in 2D"
        # The neighbors along z are in `seen`, so that only the other axes are padded.
        padding = (0, *convolution.dilation[1:])
        return shift_and_rectify(convolve(convolution, seen, padding), self.widen.get_buffer("shift"))


class FoldedPool(nn.Module):
    """Max pooling over cubes of 2 voxels, axis by axis.

    On a CPU, PyTorch's pooling also writes the indices of the maxima, which inference does not read. This takes a third
    of the time and a quarter of the memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, C, D/2, H/2, W/2), rounded down."""
        if x.device.type != "cpu":
            return F.max_pool3d(x, 2)
        for axis in (2, 3, 4):
            last = x.shape[axis] // 2 * 2
            x = torch.maximum(*(x[(*[slice(None)] * axis, slice(first, last, 2))] for first in (0, 1)))
        return x


def _slabs(x: Tensor) -> Iterator[Tensor]:
    """Yield views of a few slices each, which fit into a CPU's cache; on a GPU, one view of all slices."""
    depth = _SLAB if x.device.type == "cpu" else x.shape[2]
    for first in range(0, x.shape[2], depth):
        yield x[:, :, first : first + depth]


@torch.no_grad()
def folded(net: Net, dtype: torch.dtype) -> Net:
    """Return a copy of `net` that computes the same in evaluation, faster. It cannot be trained.

    Args:
        net: any network; it is not changed.
        dtype: dtype of the convolutions' weights, of the features and of the input images.
    """
    copy = deepcopy(net).eval()
    # Convolutions first: the folded blocks and features are made from folded convolutions.
    replace_modules(copy, ConvNorm, FoldedConv)
    replace_modules(copy, ResidualBlock, FoldedResidual, lambda block: block.projection is None)
    replace_modules(copy, GraduallyEnhancedFeature, FoldedFeature)
    replace_modules(copy, nn.MaxPool3d, lambda _: FoldedPool(), _halves)
    # Not the whole network, because the shifts stay in float32.
    for module in copy.modules():
        if isinstance(module, _CONVOLUTIONS):
            module.to(dtype)
    return copy.requires_grad_(False)


def _halves(pool: nn.MaxPool3d) -> bool:
    """Whether `FoldedPool` computes the same as `pool`: cubes of 2 voxels, no padding, no indices of the maxima."""
    rest = (pool.padding, pool.dilation, pool.return_indices, pool.ceil_mode)
    return (pool.kernel_size, pool.stride) == (2, 2) and rest == (0, 1, False, False)


def replace_modules(
    net: nn.Module,
    kind: type[Module],
    by: Callable[[Module], nn.Module],
    where: Callable[[Module], bool] = lambda _: True,
) -> None:
    """Replace every module of a kind for which `where` is true by `by(module)`, in place."""
    # Lists, because the replacement changes what is iterated over.
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind) and where(child):
                setattr(parent, name, by(child))
