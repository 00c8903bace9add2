"""Configuration of inference, from the output of a network to a mask."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from renalnet.config.section import Section

BackendName: TypeAlias = Literal["auto", "torch", "openvino"]
"""Library that computes the networks in `predict`; `auto` is the faster one on this machine."""
_AxisVoxels = Annotated[int, Field(ge=1, le=1024)]
SubVolume: TypeAlias = tuple[_AxisVoxels, _AxisVoxels, _AxisVoxels]
"""Voxels (z, y, x) of a sub-volume, at most the size of a large CT along each axis."""


class StitchConfig(Section):
    """Overlapping sub-volumes, combined by majority vote (paper, II.B)."""

    tile: SubVolume = (64, 150, 150)
    """Voxels of a sub-volume (z, y, x); 64 slices in the paper."""
    # Half the slices would give inner voxels two votes; with ties decided by probability, that is just the mean.
    # In-plane, the stride matters only where an ROI has grown beyond 150×150 pixels.
    stride: SubVolume = (16, 75, 75)
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


class OperationConfig(Section):
    """Base of the configuration of one operation of post-processing.

    The class variables declare the operation, the fields are its parameters. To add an operation, write its function
    in a module of its own, a subclass that names the function, and a field of `InferenceConfig`. Operations are applied
    in the order of these fields.
    """

    function: ClassVar[str]
    """`module:name` of the function, an `Operation` of `renalnet.inference.post_processing`; imported when applied."""
    stage: ClassVar[str]
    """Name of the operation in the stages at which masks are measured."""
    title: ClassVar[str]
    """Name of the operation in messages."""
    off: ClassVar[Mapping[str, Any]] = {"enabled": False}
    """Values of the fields that switch the operation off."""
    on: ClassVar[Mapping[str, Any]] = {"enabled": True}
    """Values of the fields that switch it on."""
    is_always_measured: ClassVar[bool] = False
    """Whether a study measures the stages of the operation also where the configuration switches it off."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Bounds of the parameters that a study searches on the validation cases, on a logarithmic scale."""
    options: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    """Values that a study tries on the validation cases beside the configured one; not used where `ranges` is given."""

    @property
    def is_on(self) -> bool:
        """Whether the operation can change a mask."""
        return any(getattr(self, name) != value for name, value in self.off.items())

    def switched(self, *, on: bool) -> Self:
        """Return the same parameters with the operation switched on or off."""
        return self.model_copy(update=dict(self.on if on else self.off))


class CrfConfig(OperationConfig):
    """Dense CRF (Krähenbühl & Koltun, 2011) in 3D. All of its numbers are reconstruction."""

    function: ClassVar[str] = "renalnet.inference.crf:apply"
    stage: ClassVar[str] = "crf"
    title: ClassVar[str] = "the dense CRF"
    off: ClassVar[Mapping[str, Any]] = {"iterations": 0}
    # Empty, because the number of iterations is a parameter, which switching on must keep.
    on: ClassVar[Mapping[str, Any]] = {}
    is_always_measured: ClassVar[bool] = True
    # Within the bounds of the fields, because very small and very large widths are slow.
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "smooth_weight": (0.05, 3.0),
        "smooth_mm": (0.7, 4.0),
        "bilateral_weight": (0.05, 4.0),
        "bilateral_mm": (2.0, 8.0),
        "bilateral_hu": (10.0, 80.0),
    }

    # The weights and widths come from painted label maps with synthetic errors. A bilateral weight of 3 gained more
    # where contrast was sure, but cost up to 7 points of Dice on small isodense tumors (results/LOG.md).
    iterations: int = Field(5, ge=0, le=100)
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


class ComponentsConfig(OperationConfig):
    """Connectivity: only the largest 18-connected component of the kidney and its lesions is kept (paper, II.B)."""

    function: ClassVar[str] = "renalnet.inference.components:apply"
    stage: ClassVar[str] = "connectivity"
    title: ClassVar[str] = "connectivity"
    is_always_measured: ClassVar[bool] = True
    # The largest option is below 2.11 ml, the smallest tumor of the paper's cohort.
    options: ClassVar[Mapping[str, tuple[float, ...]]] = {"min_tumor_ml": (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)}

    enabled: bool = True
    """Whether the other components become background. Otherwise, and for other structures, labels are not changed."""
    min_volume_ml: float = Field(0.0, ge=0)
    """Least volume of the largest component. A smaller one is no kidney, and the kidney and its lesions become
    background."""
    min_tumor_ml: float = Field(0.0, ge=0)
    """Least volume of a tumor. Smaller 18-connected pieces of tumor in the kept component become kidney."""


class InferenceConfig(Section):
    """Configuration of the stages from a network's output to a mask."""

    study_key: ClassVar[str] = "final"

    stitch: StitchConfig = StitchConfig()
    """Sub-volumes and their overlap."""
    crf: CrfConfig = CrfConfig()
    """Dense CRF after the vote."""
    components: ComponentsConfig = ComponentsConfig()
    """Connectivity after the dense CRF."""

    @property
    def operations(self) -> dict[str, OperationConfig]:
        """Operations of post-processing by field, in the order in which they are applied."""
        return {name: getattr(self, name) for name in OPERATIONS}


# Read from the fields, so that a new operation needs no second entry.
OPERATIONS: Final[dict[str, type[OperationConfig]]] = {
    name: each.annotation
    for name, each in InferenceConfig.model_fields.items()
    if isinstance(each.annotation, type) and issubclass(each.annotation, OperationConfig)
}
"""Classes of the operations of post-processing by field, in the order in which they are applied."""
