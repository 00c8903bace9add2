"""3D_FCN_PPM (Yang et al., ICPR 2018). What the paper does not say is reconstruction.

At full resolution there are a stem and 2 residual blocks, at half resolution 3 blocks, and at quarter resolution 6
blocks with dilations 1, 1, 2, 2, 4, 4 and the pyramid pooling module; max poolings connect them. Two levels of
gradually enhanced features with one block each and the head follow. The 13 residual blocks have 39 convolutions.
"""

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


class FcnPpm(SegmentationNet):
    """The paper's network. It uses all fields of `config`."""

    def __init__(self, config: NetConfig, num_classes: int) -> None:
        num_full, num_half, num_quarter = config.encoder_blocks
        full = config.width
        # A resolution without blocks keeps the number of channels of the one before it.
        half = 2 * full if num_half else full
        quarter = 4 * full if num_quarter else half
        pyramid = PyramidPooling(quarter, config.ppm_kernels)
        auxiliary = (2 * full, pyramid.out_channels) if config.deep_supervision else ()
        # 12 slices are 3 at quarter resolution. With 2, oneDNN's bfloat16 gradient of an undilated 3×3×3 convolution
        # reads memory that it never wrote (torch 2.13, CPU).
        super().__init__((4, 4, 4), (12, 8, 8), num_classes, full, auxiliary)
        self.config = config
        self.stem = conv_norm(1, full, 3)
        self.at_full = _stage(full, full, (1,) * num_full)
        self.at_half = _stage(full, half, (1,) * num_half)
        self.at_quarter = _stage(half, quarter, config.dilations)
        self.pool = nn.MaxPool3d(2)
        self.pyramid = pyramid
        self.to_half = GraduallyEnhancedFeature(pyramid.out_channels, half, 2 * full)
        self.to_full = GraduallyEnhancedFeature(2 * full, full, full)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features of full, half and quarter resolution, the last from the pyramid pooling module."""
        full = channels_last(image)
        for block in (self.stem, *self.at_full):  # one by one, so that inference frees each feature after its use
            full = block(full)
        # Each pooling comes before `of_skip`, which overwrites its feature in a folded network.
        half = self.pool(full)
        full = self.to_full.of_skip(full)
        half = self.at_half(half)
        quarter = self.pool(half)
        half = self.to_half.of_skip(half)
        pooled = self.pyramid(self.at_quarter(quarter))
        half = self.to_half(pooled, half)
        return [self.to_full(half, full), half, pooled]

    def path(self) -> tuple[PathLayer, ...]:
        """Return the path through quarter resolution and the largest kernel of the pyramid pooling module."""
        num_full, num_half, _ = self.config.encoder_blocks
        convolution = convolution_layer()
        # A block counts as its middle convolution, because the 1×1×1 ones do not widen the field. 1 is the stem.
        encoder = [convolution] * (1 + num_full) + [POOL] + [convolution] * num_half + [POOL]
        quarter = [convolution_layer(dilation=dilation) for dilation in self.config.dilations]
        cells = [PathLayer("cells", max(self.config.ppm_kernels))] if self.config.ppm_kernels else []
        decoder = [PathLayer("upsample", 2), convolution] * 2
        return (*encoder, *quarter, *cells, *decoder)

    def assumptions(self) -> tuple[str, ...]:
        """Return the decisions that the paper leaves open."""
        full, half, quarter = self.config.encoder_blocks
        width = self.config.width
        supervision = "on" if self.config.deep_supervision else "off"
        return (
            "A residual block is a bottleneck 1×1×1, 3×3×3, 1×1×1 at half its width inside, BatchNorm and ReLU, "
            "sum activated last; projections are not among the 39 convolutions.",
            "Stem 3×3×3 and head 1×1×1, not among the 39; both poolings are 2×2×2 max.",
            f"Blocks at full, half and quarter resolution: {full}, {half}, {quarter}; two in the decoder.",
            f"Dilations at quarter resolution: {', '.join(map(str, self.config.dilations))}.",
            f"Channels {width}, {2 * width}, {4 * width}; a branch of the pyramid pooling module has {width}.",
            "The pyramid pooling module sits at quarter resolution, averages real voxels only, has no BatchNorm.",
            "Gradually enhanced features: deconvolution ×2, join with the encoder, 1×1×1 fusion, residual block, "
            f"deep supervision {supervision}.",
            "An input is padded to multiples of 4, at least 12×8×8, repeating its last slices; logits are cropped.",
            "Convolutions start at PyTorch's spread 1/√(3·fan-in), deconvolutions at He et al.'s (2015); "
            "the pyramid's biases start at one, the head's at the log of the paper's weighted shares.",
        )


def _stage(in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    # One width more than blocks: the last is only the output of the last block.
    widths = [in_channels, *([out_channels] * len(dilations))]
    return nn.Sequential(
        *(ResidualBlock(before, out_channels, dilation) for before, dilation in zip(widths, dilations, strict=False))
    )
