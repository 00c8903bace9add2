"""Configuration of inference, from the output of a network to a mask."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renalnet.config.section import Section, Voxels


class StitchConfig(Section):
    """Overlapping sub-volumes, combined by majority vote (paper, II.B)."""

    tile: Voxels = (64, 150, 150)
    """Voxels of a sub-volume (z, y, x); 64 slices in the paper."""
    stride: Voxels = (16, 75, 75)
    """Voxels from one sub-volume to the next (z, y, x). With 16 slices, inner voxels get 4 votes (reconstruction)."""
    combine: Literal["vote", "mean", "gaussian"] = "vote"
    """How overlapping sub-volumes are combined. `vote` is the paper's majority vote, `mean` the mean of the
    probabilities. `gaussian` weights that mean by a Gaussian around the centre of each sub-volume, as in nnU-Net."""
    mirror: tuple[Literal["z", "y", "x"], ...] = ()
    """Axes along which each sub-volume is also mirrored, in all combinations. Its probability is their mean. One,
    two or three axes take 2, 4 or 8 times as long."""

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if any(not 1 <= step <= size for step, size in zip(self.stride, self.tile, strict=True)):
            raise ValueError(
                f"stride {self.stride} must be between 1 and tile {self.tile} on each axis, or voxels would be left out"
            )
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError(f"mirror {self.mirror} must name each axis at most once; remove the repeated one")
        return self


class CrfConfig(Section):
    """Dense CRF (Krähenbühl & Koltun, 2011) in 3D. All of its numbers are reconstruction."""

    iterations: int = Field(5, ge=0)
    """Mean-field iterations. With 0, the mask is the vote."""
    smooth_weight: float = Field(0.5, ge=0, le=10)
    """Weight of the Gaussian kernel on position."""
    smooth_mm: float = Field(2.0, ge=0.5, le=20)
    """Width of the Gaussian kernel on position."""
    bilateral_weight: float = Field(2.0, ge=0, le=10)
    """Weight of the kernel on position and intensity."""
    bilateral_mm: float = Field(4.0, ge=1, le=20)
    """Spatial width of the bilateral kernel. Very small widths take ten times as long or more."""
    bilateral_hu: float = Field(25.0, ge=5, le=500)
    """Intensity width of the bilateral kernel."""


class ComponentsConfig(Section):
    """Connectivity: only the largest 18-connected component of kidney and tumor is kept (paper, II.B)."""

    enabled: bool = True
    """Whether the other components become background. Otherwise labels are not changed."""
    min_volume_ml: float = Field(0.0, ge=0)
    """Least volume of the largest component. A smaller one is no kidney, and the mask becomes empty."""
    min_tumor_ml: float = Field(0.0, ge=0)
    """Least volume of a tumor. Smaller 18-connected pieces of tumor in the kept component become kidney."""


class InferenceConfig(Section):
    """Configuration of the stages from a network's output to a mask."""

    stitch: StitchConfig = StitchConfig()
    """Sub-volumes and their overlap."""
    crf: CrfConfig = CrfConfig()
    """Dense CRF after the vote."""
    components: ComponentsConfig = ComponentsConfig()
    """Connectivity after the dense CRF."""
