"""The networks by name, and their configuration: everything that is known about a network without PyTorch.

A new network is one module in `renalnet/nets`, and here an entry in `NETWORKS` and its own fields in `NetConfig`.
Every network can be folded for inference and exported as ONNX, because both work on the layers, not on the class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from renalnet.config.catalogue import name_in, names_of
from renalnet.config.section import Section
from renalnet.errors import ConfigError, nearest


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table I, over its 50 test patients; distances in pixels as (mean, standard deviation)."""

    dice_kidney: float
    dice_tumor: float
    # Quoted, but no aim: kidney distances above 4 pixels are hardly plausible at a Dice of 0.93.
    distance_kidney_px: tuple[float, float]
    distance_tumor_px: tuple[float, float]


@dataclass(frozen=True)
class NetworkEntry:
    """A network: how it is built, how the search treats it and how the report draws it."""

    title: str
    """Name for people, as in the report."""
    builder: str
    """`module:class` of a `SegmentationNet`, called with a `NetConfig`; imported when the network is built."""
    color: str
    """Color in figures, `#RRGGBB`; from Okabe & Ito (2008), who chose colors that color-blind readers tell apart."""
    marker: str
    """Matplotlib marker in figures."""
    is_planar: bool = False
    """Whether the logits of a voxel depend on its own slice only."""
    uses_ppm_kernels: bool = False
    """Whether `NetConfig.ppm_kernels` applies, so that the search draws it."""
    scales_with_width: bool = True
    """Whether `NetConfig.width` scales all channels, so that a width of equal cost exists."""
    paper: PaperRow | None = None
    """The network's row of the paper's Table I; None where the paper does not have it."""


MAIN_NETWORK: Final = "fcn_ppm"
"""Name of 3D_FCN_PPM, the network that is searched and compared with the others."""

NETWORKS: Final[Mapping[str, NetworkEntry]] = MappingProxyType(
    {
        MAIN_NETWORK: NetworkEntry(
            title="3D_FCN_PPM",
            builder="renalnet.nets.fcn_ppm:FcnPpm",
            color="#0072B2",
            marker="o",
            uses_ppm_kernels=True,
            # The paper's abstract (0.923, 0.826) and text (0.931, 0.802) give other Dice values than its Table I.
            paper=PaperRow(0.931, 0.779, (4.24, 1.55), (2.65, 0.91)),
        ),
        "unet3d": NetworkEntry(
            title="3D U-Net",
            builder="renalnet.nets.unet3d:UNet3d",
            color="#E69F00",
            marker="s",
            paper=PaperRow(0.927, 0.751, (4.28, 1.53), (2.86, 0.94)),
        ),
        "pspnet2d": NetworkEntry(
            title="2D PSPNet",
            builder="renalnet.nets.pspnet2d:PspNet2d",
            color="#CC79A7",
            marker="^",
            is_planar=True,
            # The paper prints the tumor distance as "12.0.8".
            paper=PaperRow(0.902, 0.638, (4.47, 1.55), (12.08, 12.82)),
        ),
    }
)
"""Every network by name. Benchmarks and tests follow this order; the report reverses it."""

BASELINES: Final = tuple(name for name in NETWORKS if name != MAIN_NETWORK)
"""Every network that 3D_FCN_PPM can be compared with."""
PAPER_BASELINES: Final = tuple(name for name in BASELINES if NETWORKS[name].paper)
"""The baselines of the paper. A network without a row in the paper is not among them, so the default study stays the
same."""
NetName = Annotated[str, name_in(NETWORKS, "network"), names_of(NETWORKS)]
"""A name in `NETWORKS`; configurations validate it."""


def entry_of(name: str) -> NetworkEntry:
    """Return the entry of the network `name`. Raises ConfigError naming the known networks."""
    if name not in NETWORKS:
        raise ConfigError(f"'{name}' is no network; {nearest(name, NETWORKS)}")
    return NETWORKS[name]


_NumBlocks = Annotated[int, Field(ge=0, le=64)]
# A kernel may be larger than the feature map, and averages all of it then.
_Reach = Annotated[int, Field(ge=1, le=512)]
"""Size of a kernel, or a dilation, in voxels of the features."""


class NetConfig(Section):
    """Architecture of a network. The defaults give the paper's 3D_FCN_PPM."""

    added: ClassVar[frozenset[str]] = frozenset({"skip"})

    name: NetName = MAIN_NETWORK
    """A name in `NETWORKS`."""
    width: int = Field(16, ge=4, le=1024)
    """Channels at full resolution. Each pooling doubles them (reconstruction)."""
    encoder_blocks: tuple[_NumBlocks, ...] = Field((2, 3, 6), min_length=2, max_length=4)
    """Residual blocks at full, half and quarter resolution. Two more are in the decoder, 13 in all (reconstruction).
    Two or four numbers give a network with one pooling or with three, instead of the paper's two."""
    dilations: tuple[_Reach, ...] = (1, 1, 2, 2, 4, 4)
    """Dilation of each residual block at the coarsest resolution (reconstruction)."""
    skip: Literal["gefm", "plain"] = "gefm"
    """How the decoder joins a feature of the encoder with the deeper one: `gefm` by the gradually enhanced feature
    module, `plain` without the residual block that enhances the joined feature."""
    ppm_kernels: tuple[_Reach, ...] = Field((2, 4, 8, 16), max_length=16)
    """Kernel size of the pooling and of the deconvolution in each branch of the pyramid pooling module. An empty tuple
    leaves the module out."""
    deep_supervision: bool = False
    """Whether the loss also reads logits at the coarser levels of the decoder (reconstruction)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.dilations) != self.encoder_blocks[-1]:
            raise ValueError(
                f"dilations {self.dilations} must give one dilation for each of the {self.encoder_blocks[-1]} blocks "
                "at the coarsest resolution; change dilations or encoder_blocks"
            )
        return self

    @property
    def num_poolings(self) -> int:
        """Number of poolings, each of which halves the resolution; 2 in the paper."""
        return len(self.encoder_blocks) - 1
