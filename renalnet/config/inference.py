"""From the output of a network to a mask."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renalnet.config.section import Section, Voxels


class StitchConfig(Section):
    """Overlapping sub-volumes settled by majority vote (paper, II.B)."""

    tile: Voxels = (64, 150, 150)
    """Voxels of a sub-volume; 64 slices in the paper."""
    stride: Voxels = (16, 75, 75)
    """Step from one sub-volume to the next; 16 slices give inner voxels four votes (reconstruction)."""
    combine: Literal["vote", "mean", "gaussian"] = "vote"
    """Where sub-volumes overlap: the paper's majority vote; the mean of their probabilities; that mean with a Gaussian
    weight that falls from the middle of a sub-volume to its faces, as in nnU-Net."""
    mirror: tuple[Literal["z", "y", "x"], ...] = ()
    """Axes along which each sub-volume is also looked at mirrored, in all combinations: its probability is the mean of
    them, its time 2, 4 or 8 times as long."""

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if any(not 1 <= step <= size for step, size in zip(self.stride, self.tile, strict=True)):
            raise ValueError(f"stride {self.stride} must lie between 1 and tile {self.tile} on each axis")
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError(f"mirror {self.mirror} must name each axis once")
        return self


class CrfConfig(Section):
    """Dense 3D conditional random field (Krähenbühl & Koltun, 2011); all its numbers are reconstruction."""

    iterations: int = Field(5, ge=0)
    """Mean-field iterations; 0 leaves the vote as it is."""
    smooth_weight: float = Field(0.5, ge=0, le=10)
    """Weight of the Gaussian kernel on position."""
    smooth_mm: float = Field(2.0, ge=0.5, le=20)
    """Width of the Gaussian kernel."""
    bilateral_weight: float = Field(2.0, ge=0, le=10)
    """Weight of the kernel on position and intensity."""
    bilateral_mm: float = Field(4.0, ge=1, le=20)
    """Spatial width of the bilateral kernel; very small widths cost an order of magnitude more time."""
    bilateral_hu: float = Field(25.0, ge=5, le=500)
    """Width of the bilateral kernel in intensity."""


class ComponentsConfig(Section):
    """Connectivity: only the largest 18-connected component of kidney or tumor stays (paper, II.B)."""

    enabled: bool = True
    """Whether the rest is emptied; else labels stay as they are."""
    min_volume_ml: float = Field(0.0, ge=0)
    """A largest component smaller than this is no kidney: the mask is emptied."""
    min_tumor_ml: float = Field(0.0, ge=0)
    """Of the component that stays, 18-connected pieces of tumor smaller than this become kidney."""


class InferenceConfig(Section):
    """How a network's answers become a mask."""

    stitch: StitchConfig = StitchConfig()
    """Sub-volumes and their overlap."""
    crf: CrfConfig = CrfConfig()
    """The dense conditional random field."""
    components: ComponentsConfig = ComponentsConfig()
    """Which component stays."""
