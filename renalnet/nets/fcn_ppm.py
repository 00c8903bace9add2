"""3D_FCN_PPM (Yang et al., ICPR 2018). What the paper does not say is reconstruction.

At full resolution there are a stem and 2 residual blocks, at half resolution 3 blocks, and at quarter resolution 6
blocks with dilations 1, 1, 2, 2, 4, 4 and the pyramid pooling module; max poolings connect them. Two levels of
gradually enhanced features with one block each and the head follow. The 13 residual blocks have 39 convolutions. Other
numbers of poolings, dilations and blocks, plain skips, and a network without the pyramid are configurations.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from torch import Tensor, nn

from renalnet.config import NetConfig
from renalnet.nets.blocks import (
    POOL,
    GraduallyEnhancedFeature,
    PathLayer,
    ResidualBlock,
    SegmentationNet,
    channels_last,
    conv_norm,
    convolution_layer,
)
from renalnet.nets.ppm import PyramidPooling

_RESOLUTIONS: Final = ("full", "half", "quarter", "eighth")
_SKIPS: Final = {
    "gefm": "Gradually enhanced features: deconvolution ×2, join with the encoder, 1×1×1 fusion, residual block",
    "plain": "Plain skips: deconvolution ×2, join with the encoder, 1×1×1 fusion, no gradually enhanced features",
}
"""Joins of the decoder, by `NetConfig.skip`."""


class FcnPpm(SegmentationNet):
    """The paper's network. It uses all fields of `config`."""

    def __init__(self, config: NetConfig, num_classes: int) -> None:
        channels = _channels(config)
        widths = [config.width * 2**level for level in range(config.num_poolings)]
        pyramid = PyramidPooling(channels[-1], config.ppm_kernels)
        auxiliary = (*widths[1:], pyramid.out_channels) if config.deep_supervision else ()
        step = 2**config.num_poolings
        # Three slices at the coarsest resolution. With 2, oneDNN's bfloat16 gradient of an undilated 3×3×3 convolution
        # reads memory that it never wrote (torch 2.13, CPU).
        super().__init__((step, step, step), (3 * step, 2 * step, 2 * step), num_classes, config.width, auxiliary)
        self.config = config
        self.stem = conv_norm(1, config.width, 3)
        dilations = [*((1,) * count for count in config.encoder_blocks[:-1]), config.dilations]
        before = config.width
        for name, after, of_blocks in zip(_RESOLUTIONS, channels, dilations, strict=False):
            self.add_module(f"at_{name}", _stage(before, after, of_blocks))
            before = after
        self.pool = nn.MaxPool3d(2)
        self.pyramid = pyramid
        deep = pyramid.out_channels
        for level in reversed(range(config.num_poolings)):
            module = GraduallyEnhancedFeature(deep, channels[level], widths[level], is_enhanced=config.skip == "gefm")
            self.add_module(f"to_{_RESOLUTIONS[level]}", module)
            deep = widths[level]

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features of each resolution, the coarsest from the pyramid pooling module."""
        names = _RESOLUTIONS[: len(self.config.encoder_blocks)]
        x = channels_last(image)
        for block in (self.stem, *self._blocks_at("full")):
            x = block(x)  # one by one, so that inference frees each feature after its use
        skips = []
        for finer, coarser in pairwise(names):
            # Each pooling comes before `of_skip`, which overwrites its feature in a folded network.
            pooled = self.pool(x)
            skips.append(self._decoder(finer).of_skip(x))
            x = self._blocks_at(coarser)(pooled)
        features = [self.pyramid(x)]
        for name in reversed(names[:-1]):
            features.insert(0, self._decoder(name)(features[0], skips.pop()))
        return features

    def _blocks_at(self, resolution: str) -> nn.Sequential:
        blocks: nn.Sequential = getattr(self, f"at_{resolution}")
        return blocks

    def _decoder(self, resolution: str) -> GraduallyEnhancedFeature:
        module: GraduallyEnhancedFeature = getattr(self, f"to_{resolution}")
        return module

    def path(self) -> tuple[PathLayer, ...]:
        """Return the path through the coarsest resolution and the largest kernel of the pyramid pooling module."""
        convolution = convolution_layer()
        layers = [convolution]  # the stem
        # A block counts as its middle convolution, because the 1×1×1 ones do not widen the field.
        for count in self.config.encoder_blocks[:-1]:
            layers += [*[convolution] * count, POOL]
        layers += [convolution_layer(dilation=dilation) for dilation in self.config.dilations]
        if self.config.ppm_kernels:
            layers.append(PathLayer("cells", max(self.config.ppm_kernels)))
        enhancement = [convolution] if self.config.skip == "gefm" else []
        return (*layers, *[PathLayer("upsample", 2), *enhancement] * self.config.num_poolings)

    def assumptions(self) -> tuple[str, ...]:
        """Return the decisions that the paper leaves open."""
        config = self.config
        names = _RESOLUTIONS[: len(config.encoder_blocks)]
        channels = _channels(config)
        blocks = config.num_poolings if config.skip == "gefm" else 0
        step = 2**config.num_poolings
        return (
            "A residual block is a bottleneck 1×1×1, 3×3×3, 1×1×1 at half its width inside, BatchNorm and ReLU, "
            "sum activated last; projections are not among the 39 convolutions.",
            f"Stem 3×3×3 and head 1×1×1, not among the 39; all poolings ({config.num_poolings}) are 2×2×2 max.",
            f"Blocks at {_listed(names)} resolution: {_listed(config.encoder_blocks)}; {blocks} in the decoder.",
            f"Dilations at {names[-1]} resolution: {_listed(config.dilations)}.",
            f"Channels {_listed(channels)}; a branch of the pyramid pooling module has {max(1, channels[-1] // 4)}.",
            f"The pyramid pooling module sits at {names[-1]} resolution, averages real voxels only, has no BatchNorm.",
            _SKIPS[config.skip] + f", deep supervision {'on' if config.deep_supervision else 'off'}.",
            f"An input is padded to multiples of {step}, at least {3 * step}×{2 * step}×{2 * step}, repeating its last "
            "slices; logits are cropped.",
            "Convolutions start at PyTorch's spread 1/√(3·fan-in), deconvolutions at He et al.'s (2015); "
            "the pyramid's biases start at one, the head's at the log of the paper's weighted shares.",
        )


def _channels(config: NetConfig) -> list[int]:
    """Return the channels at each resolution. One without blocks keeps the channels of the one before it."""
    channels = [config.width]
    for level, num_blocks in enumerate(config.encoder_blocks[1:], start=1):
        channels.append(config.width * 2**level if num_blocks else channels[-1])
    return channels


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _stage(in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    # One width more than blocks: the last is only the output of the last block.
    widths = [in_channels, *([out_channels] * len(dilations))]
    return nn.Sequential(
        *(ResidualBlock(before, out_channels, dilation) for before, dilation in zip(widths, dilations, strict=False))
    )
