"""3D U-Net (Çiçek et al., MICCAI 2016), the paper's 3D baseline.

As published, it has four resolutions, two 3×3×3 convolutions with BatchNorm and ReLU at each, twice the channels before
each 2×2×2 max pooling, 2×2×2 up-convolutions with stride 2, skip connections by concatenation, and a 1×1×1 head. Two
things differ. The convolutions are padded, so that the output has the size of the input. `width`, the channels at full
resolution, scales all channels; in the original it is 64.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from renalnet.config import NetConfig
from renalnet.nets.blocks import (
    POOL,
    Deconvolution,
    PathLayer,
    SegmentationNet,
    channels_last,
    conv_norm,
    convolution_layer,
)

_NUM_POOLINGS = 3


class UNet3d(SegmentationNet):
    """3D U-Net of `config.width` channels. It uses no other field of `config`."""

    def __init__(self, config: NetConfig, num_classes: int) -> None:
        widths = [config.width * 2**level for level in range(_NUM_POOLINGS + 1)]
        # 24 slices are 3 at the coarsest resolution, for the reason given in `FcnPpm`.
        super().__init__((8, 8, 8), (24, 16, 16), num_classes, head_channels=widths[0])
        self.width = config.width
        # As published, the second convolution before each pooling doubles the channels: 32 and 64 at full resolution.
        first = max(1, widths[0] // 2)
        self.stem = conv_norm(1, first, 3)
        self.encoder = nn.ModuleList([conv_norm(first, widths[0], 3)])
        self.ups = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for before, after in pairwise(widths):
            self.encoder.append(_two_convolutions(before, before, after))
            self.ups.append(Deconvolution(after, after, 2))
            self.decoder.append(_two_convolutions(before + after, before, before))
        self.pool = nn.MaxPool3d(2)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the feature of full resolution. This network has no auxiliary heads."""
        features = [self.encoder[0](self.stem(channels_last(image)))]
        for convolutions in list(self.encoder)[1:]:
            features.append(convolutions(self.pool(features[-1])))
        x = features.pop()
        for up, convolutions in zip(reversed(self.ups), reversed(self.decoder), strict=True):
            x = convolutions(torch.cat([features.pop(), up(x)], dim=1))
        return [x]

    def path(self) -> tuple[PathLayer, ...]:
        """Return the path through the coarsest resolution."""
        pair = (convolution_layer(), convolution_layer())
        return (*(*pair, POOL) * _NUM_POOLINGS, *pair, *((PathLayer("upsample", 2), *pair) * _NUM_POOLINGS))

    def assumptions(self) -> tuple[str, ...]:
        """Return the changes to the published network."""
        return (
            "The paper names the 3D U-Net only; this is Çiçek et al. (2016), its convolutions padded.",
            f"Channels scale with the width: {self.width} here, 64 in the original.",
        )


def _two_convolutions(in_channels: int, inner: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(in_channels, inner, 3), conv_norm(inner, out_channels, 3))
