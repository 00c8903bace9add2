"""2D PSPNet (Zhao et al., CVPR 2017) applied slice by slice, the paper's 2D baseline.

As published, a stem of three 3×3 convolutions and a max pooling is followed by a residual backbone of (3, 4, 6, 3)
bottlenecks, with dilations 2 and 4 in its last two stages. Pyramid pooling averages over 1×1, 2×2, 3×3 and 6×6 bins;
each is reduced to a quarter of the channels and enlarged bilinearly. Backbone and bins are concatenated; a 3×3
convolution, the head and a bilinear enlargement follow. These things differ:

- `width`, the channels after the stem, scales all channels; in the original it is 128.
- The features have stride 4, not 8, because an ROI of 150 pixels is a third of the published crops.
- BatchNorm in the bins follows the enlargement, because a pooled map can be a single pixel.
- There are no dropout, no auxiliary loss and no pretrained weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.config import NetConfig
from renalnet.nets.blocks import (
    Bottleneck,
    ConvNorm,
    DilatedConvolution,
    PathLayer,
    SegmentationNet,
    channels_last,
    convolution_layer,
)
from renalnet.nets.fused import normalise

_STAGES = ((3, 1), (4, 1), (6, 2), (3, 4))
"""Number of blocks and dilation of each stage. Each of the last three stages has twice the channels of the previous."""
_BINS = (1, 2, 3, 6)


class PspNet2d(SegmentationNet):
    """PSPNet of `config.width` channels, with slices folded into the batch. It uses no other field of `config`."""

    def __init__(self, config: NetConfig, num_classes: int) -> None:
        width = max(1, config.width // 2)
        # 8 pixels are 2 at stride 4, so that a BatchNorm gets four values even from a single slice.
        super().__init__((1, 4, 4), (1, 8, 8), num_classes, head_channels=8 * width)
        self.width = config.width
        self.stem = nn.Sequential(
            _conv_norm(1, width, 3, stride=2),
            _conv_norm(width, width, 3),
            _conv_norm(width, 2 * width, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.Sequential()
        channels = 2 * width
        for index, (num_blocks, dilation) in enumerate(_STAGES):
            inner = width * 2**index
            for _ in range(num_blocks):
                self.stages.append(_bottleneck(channels, inner, dilation))
                channels = 4 * inner
        self.bins = nn.ModuleList(_Bin(channels, channels // len(_BINS), size) for size in _BINS)
        # The bins together have as many channels as the backbone.
        self.fusion = _conv_norm(2 * channels, 8 * width, 3)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the fused feature at a quarter of the in-plane size, (B, C, D, H/4, W/4)."""
        batch, _, depth, height, width = image.shape
        slices = image.transpose(1, 2).reshape(batch * depth, 1, height, width)
        x = self.stages(self.stem(channels_last(slices)))
        fused: Tensor = self.fusion(torch.cat([x, *(pool(x) for pool in self.bins)], dim=1))
        return [fused.view(batch, depth, *fused.shape[1:]).transpose(1, 2)]

    def path(self) -> tuple[PathLayer, ...]:
        """Return the in-plane path through the 1×1 bin, which averages the whole slice."""
        stem = (
            convolution_layer(stride=2),
            convolution_layer(),
            convolution_layer(),
            convolution_layer(stride=2),  # the max pooling, whose window is that of a convolution
        )
        # A bottleneck counts as its middle convolution, because the 1×1 ones do not widen the field.
        stages = tuple(convolution_layer(dilation=dilation) for blocks, dilation in _STAGES for _ in range(blocks))
        return (*stem, *stages, PathLayer("whole"), convolution_layer(), PathLayer("interpolate", 4))

    def assumptions(self) -> tuple[str, ...]:
        """Return the changes to the published network."""
        return (
            "The paper names the 2D PSPNet only; this is Zhao et al. (2017) on ResNet-50, slice by slice.",
            f"Channels scale with the width: {self.width} here, 128 in the original.",
            "Features lie at stride 4, not 8; no pretrained weights, dropout or auxiliary loss.",
            "In the pooling bins BatchNorm follows the enlargement.",
        )


def _bottleneck(in_channels: int, inner: int, dilation: int) -> Bottleneck:
    """Return a bottleneck with four times the inner channels at its end, as in ResNet-50 (He et al. 2016)."""
    out_channels = 4 * inner
    body = (
        _conv_norm(in_channels, inner, 1),
        _conv_norm(inner, inner, 3, dilation=dilation),
        _conv_norm(inner, out_channels, 1),
    )
    same = in_channels == out_channels
    return Bottleneck(body, None if same else _conv_norm(in_channels, out_channels, 1, rectify=False))


class _Bin(nn.Module):
    """Average over `size` × `size` bins, 1×1 convolution, enlargement, BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H, W)."""
        pooled = self.convolution(F.adaptive_avg_pool2d(x, self.size))
        enlarged = F.interpolate(pooled, size=x.shape[2:], mode="bilinear")
        return normalise(enlarged, self.norm)


def _conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    rectify: bool = True,
) -> ConvNorm:
    """Return a `ConvNorm` in 2D with padding that keeps the size of its map for stride 1."""
    padding = dilation * (kernel // 2)
    convolution = DilatedConvolution(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)
    return ConvNorm(convolution, rectify=rectify)
