"""The building blocks of the networks. Features are (B, C, D, H, W), channels-last in memory.

A convolution before a BatchNorm has no bias, because the BatchNorm would subtract it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets.fused import normalise
from renalnet.types import Shape

LayerKind: TypeAlias = Literal["window", "upsample", "interpolate", "cells", "whole"]


@dataclass(frozen=True)
class PathLayer:
    """One layer on the path with the largest receptive field along an axis.

    `window` is a convolution or a pooling. `upsample` repeats each voxel `size` times, `interpolate` does so linearly.
    `cells` averages over aligned cells of `size` voxels, `whole` over the whole axis.
    """

    kind: LayerKind
    size: int = 1
    stride: int = 1
    dilation: int = 1
    padding: int = 0


POOL: Final = PathLayer("window", size=2, stride=2)
_SMALL_KERNEL: Final = 2
_GRADIENT_CHANNELS: Final = 16
_ONEDNN_VALUES: Final = 20480
"""Number of batch · channels · slices · rows up to which PyTorch computes the map of a single image without oneDNN."""


def convolution_layer(size: int = 3, stride: int = 1, dilation: int = 1) -> PathLayer:
    """Return the `PathLayer` of a convolution with padding that keeps the size of its map."""
    return PathLayer("window", size, stride, dilation, padding=dilation * (size // 2))


class SegmentationNet(nn.Module):
    """Base class of the networks: an image (B, 1, D, H, W) of any size to logits (B, C, D, H, W) of the same size.

    C is the number of classes, background included.

    The input is padded at the end of each axis by repeating its last slice, to a multiple of `multiple` and to at least
    `minimum` voxels. Every pooling then divides it, and BatchNorm gets more than one voxel even in a batch of one. The
    logits are cropped to the size of the input. A subclass implements `features` and `path`, and passes the number of
    channels of each feature.
    """

    def __init__(
        self,
        multiple: Shape,
        minimum: Shape,
        num_classes: int,
        head_channels: int,
        auxiliary_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        """Number of classes C, background included."""
        self.multiple = multiple
        self.minimum = minimum
        self.head = PointwiseConvolution(head_channels, num_classes)
        self.auxiliary_heads = nn.ModuleList(
            PointwiseConvolution(channels, num_classes) for channels in auxiliary_channels
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, C, D, H, W) of `image` (B, 1, D, H, W)."""
        padded = self._pad(image)
        return self._logits(self.head, self.features(padded)[0], padded, image)

    def training_logits(self, image: Tensor) -> list[Tensor]:
        """Return the logits for the loss: those of `forward`, then any auxiliary ones, all of the input's size."""
        padded = self._pad(image)
        heads = [self.head, *self.auxiliary_heads]
        # Not strict: without auxiliary heads, there may be more features than heads.
        return [
            self._logits(head, feature, padded, image)
            for head, feature in zip(heads, self.features(padded), strict=False)
        ]

    def features(self, image: Tensor) -> list[Tensor]:
        """Return features (B, C, d, h, w) of a padded image, finest first: one for each head, or more."""
        raise NotImplementedError

    def path(self) -> tuple[PathLayer, ...]:
        """Return the path from input to logits with the largest receptive field in-plane."""
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
        # `F.pad` expects the last axis first.
        return F.pad(image, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")

    @staticmethod
    def _logits(head: nn.Module, feature: Tensor, padded: Tensor, image: Tensor) -> Tensor:
        # The head is linear in the channels: enlarging its three logits equals enlarging all channels, and costs less.
        logits = head(feature)
        if logits.shape[2:] != padded.shape[2:]:
            logits = F.interpolate(logits, size=padded.shape[2:], mode="trilinear")
        return crop(logits, image.shape[2:])


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the first `size` (D, H, W) voxels of `x` (B, C, D, H, W)."""
    return x[..., : size[0], : size[1], : size[2]]


def channels_last(image: Tensor) -> Tensor:
    """Return a one-channel image (B, 1, …) with channels-last strides, the fastest order on every device.

    With one channel, both orders are the same memory, and PyTorch would take it for channels-first. Convolutions keep
    the order of their input.
    """
    return image.contiguous().squeeze(1).unsqueeze(-1).movedim(-1, 1)


def convolve(convolution: nn.Conv3d, x: Tensor, padding: tuple[int, ...] | None = None) -> Tensor:
    """Return the convolution of `x` (B, in, D, H, W), by oneDNN also where PyTorch would compute it in another way.

    In float32, PyTorch 2.9 to 2.13 compute the small map of a single image without oneDNN, which takes up to thirty
    times as long. The slabs of a folded network are such maps.

    Args:
        convolution: any convolution in 3D.
        x: maps without gradient.
        padding: zeros on either side of each axis; None for those of `convolution`.
    """
    if isinstance(convolution, ExactConvolution):
        return _exactly(x, convolution.weight.dtype, lambda wide: _convolved(convolution, wide, padding))
    return _convolved(convolution, x, padding)


def _convolved(convolution: nn.Conv3d, x: Tensor, padding: tuple[int, ...] | None) -> Tensor:
    bias = convolution.bias
    zeros = convolution.padding if padding is None else padding
    if _is_for_onednn(x):
        y: Tensor = torch.ops.aten.mkldnn_convolution(
            x, convolution.weight, bias, zeros, convolution.stride, convolution.dilation, convolution.groups
        )
        return y
    return F.conv3d(x, convolution.weight, bias, convolution.stride, zeros, convolution.dilation, convolution.groups)


def _is_for_onednn(x: Tensor) -> bool:
    """Whether a processor with oneDNN computes with `x` in float32."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    # Autocast does not know oneDNN's own operation, which would compute in the number format of the image.
    if torch.is_autocast_enabled("cpu"):
        return False
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _is_small(x: Tensor) -> bool:
    """Whether `x` is such a small map of a single image."""
    return x.shape[0] == 1 and x.shape[:4].numel() <= _ONEDNN_VALUES


def _exactly(x: Tensor, dtype: torch.dtype, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what `compute` makes of `x` in `dtype`, without autocast, in the number format of the layers around it."""
    around = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    with torch.autocast("cpu", enabled=False):
        return compute(x.to(dtype)).to(around)


class ExactConvolution(nn.Module):
    """Base of convolutions that compute in the number format of their weights, also under autocast on a processor."""

    weight: Tensor

    def forward(self, input: Tensor, *others: list[int] | None) -> Tensor:
        """Compute the layer's own `forward`. The output is in the number format of the layers around it."""
        # Outside of the lambda, which has no `super()`.
        compute = super().forward
        return _exactly(input, self.weight.dtype, lambda wide: compute(wide, *others))


def compute_in_float32(convolution: nn.Module) -> None:
    """Make a layer an `ExactConvolution` with weights in float32, in place."""
    if not isinstance(convolution, ExactConvolution):
        # As parametrizations of PyTorch do: names of weights, hooks and copies stay as they are.
        kind = type(convolution)
        convolution.__class__ = type(f"Exact{kind.__name__}", (ExactConvolution, kind), {})
    convolution.float()


class PointwiseConvolution(nn.Conv3d):
    """Convolution with a kernel of one voxel.

    In float32 and on one thread of a processor, PyTorch 2.9 to 2.13 compute it without oneDNN, and write another memory
    order than the layers around it expect. A training step then takes 1.5 times as long.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, D, H, W)."""
        if not _is_for_onednn(input):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return convolve(self, input)
        if _is_small(input):
            return super().forward(input)
        # PyTorch leaves dilated convolutions to oneDNN. A kernel of one voxel is the same with any dilation.
        return F.conv3d(input, self.weight, self.bias, dilation=2)


class DilatedConvolution(nn.Conv2d):
    """Dilated convolution in 2D whose gradient is right in bfloat16 on a processor.

    PyTorch 2.13 leaves a part of the gradient of its weights unwritten on processors with bfloat16 instructions, in
    channels-last order and for numbers of channels that are no multiple of `_GRADIENT_CHANNELS`: seen for 20, 24 and 40
    channels, dilations 2 and 4, and maps of 32 to 48 pixels. The gradient is then not finite, or finite and wrong. Such
    a layer is trained in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, …), in the number format of autocast."""
        if not self._has_wrong_gradient(input):
            return super().forward(input)
        return _exactly(input, torch.float32, super().forward)

    def _has_wrong_gradient(self, input: Tensor) -> bool:
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            return False
        is_multiple = self.in_channels % _GRADIENT_CHANNELS == self.out_channels % _GRADIENT_CHANNELS == 0
        return max(self.dilation) > 1 and not is_multiple


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, the sum with an optional residual, and an optional ReLU."""

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, *, rectify: bool = True) -> None:
        """Create the BatchNorm of `convolution`, in its number of dimensions.

        Args:
            convolution: without bias, in 2D or 3D.
            rectify: whether the ReLU is applied.
        """
        super().__init__()
        kind = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
        self.convolution = convolution
        self.norm = kind(convolution.out_channels)
        self.rectify = rectify

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map `x` (B, in, …) and `residual` (B, out, …) to (B, out, …)."""
        return normalise(self.convolution(x), self.norm, residual, rectify=self.rectify)


def conv_norm(in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1, rectify: bool = True) -> ConvNorm:
    """Return a `ConvNorm` in 3D with padding that keeps the size of its map."""
    if kernel == 1:
        return ConvNorm(PointwiseConvolution(in_channels, out_channels, bias=False), rectify=rectify)
    padding = dilation * (kernel // 2)
    convolution = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return ConvNorm(convolution, rectify=rectify)


class Bottleneck(nn.Module):
    """Three convolutions, the sum with the input, and a ReLU (He et al. 2016).

    A projection adapts the input where the number of channels changes.
    """

    def __init__(self, body: Sequence[ConvNorm], projection: ConvNorm | None) -> None:
        super().__init__()
        self.body = nn.ModuleList(body)
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (B, in, …) to (B, out, …)."""
        reduce, widen, restore = self.body
        shortcut = x if self.projection is None else self.projection(x)
        y: Tensor = restore(widen(reduce(x)), shortcut)
        return y


class ResidualBlock(Bottleneck):
    """Bottleneck of three convolutions: 1×1×1, dilated 3×3×3, 1×1×1, with half the block's channels inside.

    The ReLU follows the sum. A 1×1×1 projection adapts the input where the number of channels changes. The paper
    (II.A.1) says only that the residual blocks have 39 convolutions in all; the rest is reconstruction.
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
    """Transposed convolution whose stride equals its kernel size.

    The cells that it writes do not overlap, so that it is one matrix product and a rearrangement. The numbers are those
    of `nn.ConvTranspose3d`, several times faster on a CPU for a large kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=kernel)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, kernel·D, kernel·H, kernel·W), cropped at the end to `output_size`."""
        kernel = self.kernel_size[0]
        # PyTorch's own operation is faster only for a small kernel without gradients, and by oneDNN.
        is_slow = _is_for_onednn(input) and _is_small(input)
        if kernel <= _SMALL_KERNEL and not torch.is_grad_enabled() and not is_slow:
            whole = super().forward(input)
            return whole if output_size is None else crop(whole, output_size)
        batch, channels, depth, height, width = input.shape
        # The rows are in the order (z, y, x, out), in which `cells` is divided below.
        weight = self.weight.permute(2, 3, 4, 1, 0).reshape(-1, channels)
        bias = None if self.bias is None else self.bias.repeat(kernel**3)
        cells = F.linear(input.permute(0, 2, 3, 4, 1), weight, bias)
        cells = cells.view(batch, depth, height, width, kernel, kernel, kernel, self.out_channels)
        voxels = cells.permute(0, 7, 1, 4, 2, 5, 3, 6)
        size = (kernel * depth, kernel * height, kernel * width)
        # The reshape copies; channels-last is the order nearest to the memory of both its input and its consumer.
        joined = voxels.permute(0, 2, 3, 4, 5, 6, 7, 1).reshape(batch, *size, self.out_channels)
        full = joined.permute(0, 4, 1, 2, 3)
        return full if output_size is None else crop(full, output_size)


class GraduallyEnhancedFeature(nn.Module):
    """One level of the gradually enhanced feature module, coarse to fine.

    A deconvolution doubles the deeper feature. It is concatenated with the encoder's feature of that size, fused by a
    1×1×1 convolution and enhanced by a residual block (reconstruction: the paper's abstract only names the module).
    Without the block, it is a plain skip connection.
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int, *, is_enhanced: bool = True) -> None:
        super().__init__()
        self.deconvolution = Deconvolution(deep_channels, out_channels, 2)
        self.fusion = conv_norm(out_channels + skip_channels, out_channels, 1)
        self.enhancement = ResidualBlock(out_channels, out_channels) if is_enhanced else nn.Identity()

    def of_skip(self, skip: Tensor) -> Tensor:
        """Return what `forward` needs of the encoder's feature (B, skip, D, H, W): in training, the feature itself."""
        return skip

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Map `deep` (B, deep, D/2, H/2, W/2) and `skip`, from `of_skip`, to (B, out, D, H, W)."""
        # `FoldedFeature` divides the fusion's weights in this order.
        joined = torch.cat([self.deconvolution(deep), skip], dim=1)
        enhanced: Tensor = self.enhancement(self.fusion(joined))
        return enhanced
