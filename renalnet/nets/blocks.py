"""Parts the networks are made of; features are (B, C, D, H, W), channels-last in memory.

Convolutions that a BatchNorm follows carry no bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets.fused import normalise
from renalnet.types import NUM_CLASSES, Shape

StepKind: TypeAlias = Literal["window", "upsample", "interpolate", "cells", "whole"]


@dataclass(frozen=True)
class PathStep:
    """One step of the path that sees furthest along an axis, for the receptive field.

    `window`: convolution or pooling; `upsample`: each voxel becomes `size`; `interpolate`: the same, linear;
    `cells`: averages over aligned cells of `size`; `whole`: averages over the whole axis.
    """

    kind: StepKind
    size: int = 1
    stride: int = 1
    dilation: int = 1
    padding: int = 0


POOL: Final = PathStep("window", size=2, stride=2)
_SMALL_KERNEL: Final = 2


def convolution_step(size: int = 3, stride: int = 1, dilation: int = 1) -> PathStep:
    """The step of a convolution padded to keep its map's size."""
    return PathStep("window", size, stride, dilation, padding=dilation * (size // 2))


class SegmentationNet(nn.Module):
    """Base of the networks: any (B, 1, D, H, W) in, logits (B, 3, D, H, W) of the same D, H, W out.

    The input is padded at each axis' end by repeating its last slice, to a multiple of `multiple` and
    to at least `minimum` voxels, so that every pooling divides it and BatchNorm sees more than one
    voxel even in a batch of one; the logits are cropped back. A subclass gives `features` and `path`,
    and says how many channels each feature has.
    """

    def __init__(
        self, multiple: Shape, minimum: Shape, head_channels: int, auxiliary_channels: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.multiple = multiple
        self.minimum = minimum
        self.head = nn.Conv3d(head_channels, NUM_CLASSES, 1)
        self.auxiliary_heads = nn.ModuleList(nn.Conv3d(channels, NUM_CLASSES, 1) for channels in auxiliary_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 3, D, H, W) of `image` (B, 1, D, H, W)."""
        padded = self._pad(image)
        return self._logits(self.head, self.features(padded)[0], padded, image)

    def training_logits(self, image: Tensor) -> list[Tensor]:
        """What the loss reads: the logits of `forward`, then any auxiliary ones, all of the input's size."""
        padded = self._pad(image)
        heads = [self.head, *self.auxiliary_heads]
        return [
            self._logits(head, feature, padded, image)
            for head, feature in zip(heads, self.features(padded), strict=False)
        ]

    def features(self, image: Tensor) -> list[Tensor]:
        """Features (B, C, d, h, w) of a padded image, finest first: one for each head, or more."""
        raise NotImplementedError

    def path(self) -> tuple[PathStep, ...]:
        """The steps from input to logits of the path that sees furthest in-plane."""
        raise NotImplementedError

    def assumptions(self) -> tuple[str, ...]:
        """Return what the paper leaves open and this network decides, one sentence each."""
        return ()

    def _pad(self, image: Tensor) -> Tensor:
        missing = [
            max(least, -(-size // step) * step) - size
            for size, step, least in zip(image.shape[2:], self.multiple, self.minimum, strict=True)
        ]
        if not any(missing):
            return image
        return F.pad(image, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")

    @staticmethod
    def _logits(head: nn.Module, feature: Tensor, padded: Tensor, image: Tensor) -> Tensor:
        logits = head(feature)
        if logits.shape[2:] != padded.shape[2:]:
            logits = F.interpolate(logits, size=padded.shape[2:], mode="trilinear")
        return crop(logits, image.shape[2:])


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` (D, H, W) voxels of `x` (B, C, D, H, W)."""
    return x[..., : size[0], : size[1], : size[2]]


def channels_last(image: Tensor) -> Tensor:
    """A one-channel image (B, 1, …) whose strides say channels-last, the fastest order on every device.

    With one channel both orders are the same memory, and PyTorch takes it for the other one. Convolutions keep it.
    """
    return image.contiguous().squeeze(1).unsqueeze(-1).movedim(-1, 1)


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, a residual that is added where there is one, and a ReLU unless it is left out."""

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, *, rectify: bool = True) -> None:
        """Norm the channels of `convolution`, in two dimensions or three as it is."""
        super().__init__()
        kind = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
        self.convolution = convolution
        self.norm = kind(convolution.out_channels)
        self.rectify = rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        return normalise(self.convolution(x), self.norm, residual, rectify=self.rectify)


def conv_norm(in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1, rectify: bool = True) -> ConvNorm:
    """`ConvNorm` in three dimensions, padded to keep the map's size."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return ConvNorm(convolution, rectify=rectify)


class Bottleneck(nn.Module):
    """Three convolutions whose sum with the input, projected where the width changes, is rectified (He et al. 2016)."""

    def __init__(self, body: Sequence[ConvNorm], projection: ConvNorm | None) -> None:
        super().__init__()
        self.body = nn.ModuleList(body)
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, …) to (B, out, …)."""
        reduce, widen, restore = self.body
        shortcut = x if self.projection is None else self.projection(x)
        y: Tensor = restore(widen(reduce(x)), shortcut)
        return y


class ResidualBlock(Bottleneck):
    """Bottleneck of three convolutions, 1×1×1, 3×3×3 dilated, 1×1×1, at half the block's width inside.

    The sum is activated last; a 1×1×1 projection carries the input where the width changes (paper, II.A.1 names
    residual blocks of 39 convolutions in all, the rest is reconstruction).
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        inner = max(1, out_channels // 2)
        body = (
            conv_norm(in_channels, inner, 1),
            conv_norm(inner, inner, 3, dilation=dilation),
            conv_norm(inner, out_channels, 1),
        )
        same = in_channels == out_channels
        super().__init__(body, None if same else conv_norm(in_channels, out_channels, 1, rectify=False))


class Deconvolution(nn.ConvTranspose3d):
    """Transposed convolution whose stride is its kernel.

    Its output voxels do not overlap, so it is one matrix product and a rearrangement: the same numbers as
    `nn.ConvTranspose3d`, several times faster on a processor where the kernel is large.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=kernel)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in, D, H, W) to (B, out, kernel·D, kernel·H, kernel·W), cropped at the end to `output_size`."""
        kernel = self.kernel_size[0]
        if kernel <= _SMALL_KERNEL and not torch.is_grad_enabled():  # only then PyTorch's own is the faster
            whole = super().forward(input)
            return whole if output_size is None else crop(whole, output_size)
        batch, channels, depth, height, width = input.shape
        weight = self.weight.permute(2, 3, 4, 1, 0).reshape(-1, channels)
        bias = None if self.bias is None else self.bias.repeat(kernel**3)
        cells = F.linear(input.permute(0, 2, 3, 4, 1), weight, bias)
        cells = cells.view(batch, depth, height, width, kernel, kernel, kernel, self.out_channels)
        voxels = cells.permute(0, 7, 1, 4, 2, 5, 3, 6)
        size = (kernel * depth, kernel * height, kernel * width)
        # Joined channels-last, the order that both sides of the copy are nearest to.
        joined = voxels.permute(0, 2, 3, 4, 5, 6, 7, 1).reshape(batch, *size, self.out_channels)
        full = joined.permute(0, 4, 1, 2, 3)
        return full if output_size is None else crop(full, output_size)


class GraduallyEnhancedFeature(nn.Module):
    """One step of the gradually enhanced feature module, coarse to fine.

    The deeper feature is deconvolved ×2, joined with the encoder's feature of that size, fused by a 1×1×1
    convolution and enhanced by a residual block (the paper's abstract names the module only; reconstruction).
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deconvolution = Deconvolution(deep_channels, out_channels, 2)
        self.fusion = conv_norm(out_channels + skip_channels, out_channels, 1)
        self.enhancement = ResidualBlock(out_channels, out_channels)

    def of_skip(self, skip: Tensor) -> Tensor:
        """What `forward` takes of the encoder's feature (B, skip, D, H, W): for training the feature itself."""
        return skip

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """`deep` (B, deep, D/2, H/2, W/2) and `skip`, from `of_skip`, to (B, out, D, H, W)."""
        joined = torch.cat([self.deconvolution(deep), skip], dim=1)
        enhanced: Tensor = self.enhancement(self.fusion(joined))
        return enhanced
