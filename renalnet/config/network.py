"""The network and its loss."""

from typing import Self

from pydantic import Field, model_validator

from renalnet.config.networks import MAIN_NETWORK, NetName
from renalnet.config.section import Section
from renalnet.types import Triple


class NetConfig(Section):
    """Architecture of a network. The defaults give the paper's 3D_FCN_PPM."""

    name: NetName = MAIN_NETWORK
    """A name in `renalnet.config.networks.NETWORKS`, as `fcn_ppm` (3D_FCN_PPM) or `unet3d` (3D U-Net)."""
    width: int = Field(16, ge=4)
    """Channels at full resolution. Each pooling doubles them (reconstruction)."""
    encoder_blocks: tuple[int, int, int] = (2, 3, 6)
    """Residual blocks at full, half and quarter resolution. Two more are in the decoder, 13 in all (reconstruction)."""
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Dilation of each residual block at quarter resolution (reconstruction)."""
    ppm_kernels: tuple[int, ...] = (2, 4, 8, 16)
    """Kernel size of the pooling and of the deconvolution in each branch of the pyramid pooling module. An empty tuple
    leaves the module out."""
    deep_supervision: bool = False
    """Whether the loss also reads logits at the coarser levels of the decoder (reconstruction)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.dilations) != self.encoder_blocks[2]:
            raise ValueError(
                f"dilations {self.dilations} must give one dilation for each of the {self.encoder_blocks[2]} blocks at "
                "quarter resolution; change dilations or encoder_blocks"
            )
        if any(kernel < 1 for kernel in self.ppm_kernels) or any(dilation < 1 for dilation in self.dilations):
            raise ValueError(f"ppm_kernels {self.ppm_kernels} and dilations {self.dilations} must all be 1 or more")
        return self


class LossConfig(Section):
    """Weighted cross-entropy, the paper's Eq. (1)."""

    background: float = Field(0.2, gt=0)
    """Weight of background."""
    kidney: float = Field(1.0, gt=0)
    """Weight of kidney."""
    tumor: float = Field(2.0, gt=0)
    """Weight of tumor."""

    @property
    def weights(self) -> Triple:
        """Weights in label order."""
        return self.background, self.kidney, self.tumor
