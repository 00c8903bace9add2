"""The network and its loss."""

from typing import Self

from pydantic import Field, model_validator

from renalnet.config.section import Section
from renalnet.types import NetName, Triple


class NetConfig(Section):
    """A network. The defaults give the paper's 3D_FCN_PPM."""

    name: NetName = "fcn_ppm"
    """`fcn_ppm` (3D_FCN_PPM), `unet3d` (3D U-Net) or `pspnet2d` (2D PSPNet)."""
    width: int = Field(16, ge=4)
    """Channels at full resolution; doubled at each pooling (reconstruction)."""
    encoder_blocks: tuple[int, int, int] = (2, 3, 6)
    """Residual blocks at full, half and quarter resolution; two more sit in the decoder, 13 in all (reconstruction)."""
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Dilation of each block at quarter resolution (reconstruction)."""
    ppm_kernels: tuple[int, ...] = (2, 4, 8, 16)
    """Kernel of pooling and deconvolution of each branch of the pyramid pooling module; empty: no module."""
    deep_supervision: bool = False
    """Also read logits at each step of the decoder while training (reconstruction)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.dilations) != self.encoder_blocks[2]:
            raise ValueError(
                f"dilations {self.dilations} must name one dilation for each of the "
                f"{self.encoder_blocks[2]} blocks at quarter resolution"
            )
        if any(kernel < 1 for kernel in self.ppm_kernels) or any(dilation < 1 for dilation in self.dilations):
            raise ValueError("ppm_kernels and dilations must be 1 or more")
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
        """The weights in label order."""
        return self.background, self.kidney, self.tumor
