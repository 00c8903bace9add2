"""Configuration of synthetic cohorts and of the preparation of scans."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from renalnet.config.labels import KIDNEY_TUMOR, Labels
from renalnet.config.section import Section, Seed, Spacing, SpacingMm, Voxels
from renalnet.types import FloatArray, HuArray

ContrastPhase: TypeAlias = Literal["unenhanced", "corticomedullary", "nephrographic", "excretory"]
"""Time of a scan after the injection of the contrast agent."""
ReconstructionKernel: TypeAlias = Literal["smooth", "standard", "sharp"]
"""Reconstruction kernel of a scan, which decides its sharpness and the texture of its noise."""
Build: TypeAlias = Literal["slim", "medium", "broad"]
"""Build of a patient."""
CtNumber: TypeAlias = Annotated[int, Field(ge=-(2**15), lt=2**15)]
"""CT number in HU, as images store it."""


_VolumeMl = Annotated[float, Field(le=10_000)]


class PhantomConfig(Section):
    """Configuration of a synthetic cohort."""

    study_key: ClassVar[str] = "phantom"
    added: ClassVar[frozenset[str]] = frozenset({"labels", "other_lesion_share", "phases", "kernels", "builds"})
    before: ClassVar[Mapping[str, Any]] = {"contrast": "narrow"}

    labels: Labels = KIDNEY_TUMOR
    """The labels of the cohort. Drawn kidneys have tumors and the other lesions of the set, such as cysts. Other
    structures, such as vessels, are painted only where given label maps have them."""
    other_lesion_share: float = Field(0.5, ge=0, le=1)
    """Share of the drawn cases that have each lesion of the set beside the tumor."""
    num_cases: int = Field(24, ge=1, le=1_000_000)
    """Number of cases to paint. Ignored if label maps are given, because each label map then gives one case."""
    seed: Seed = 0
    """Seed of all random values. Two cohorts with the same seed are equal in every voxel."""
    shape: Voxels = (96, 200, 200)
    """Voxels of a CT of the whole abdomen (z, y, x)."""
    spacing_mm: Spacing = (3.0, 1.8, 1.8)
    """Voxel spacing of a CT of the whole abdomen (z, y, x)."""
    healthy_share: float = Field(0.15, ge=0, le=1)
    """Share of cases whose kidneys have no tumor."""
    tumor_volume_ml: tuple[_VolumeMl, _VolumeMl] = (2.0, 145.0)
    """Range of tumor volumes. Those of the paper's cohort are 2.11 to 144.82 ml."""
    noise_hu: float = Field(14.0, ge=0, le=10_000)
    """Standard deviation of the scanner's noise. In liver and spleen of real CTs it is 11-17 HU. In wide cohorts it is
    the mean, from which scans differ."""
    blur_mm: float = Field(0.8, ge=0, le=100)
    """Standard deviation of the scanner's point spread function. In wide cohorts it is the mean."""
    contrast: Literal["wide", "narrow"] = "wide"
    """Variety of the scans. In wide cohorts, each scan has a contrast phase, a reconstruction kernel, a slice
    thickness, a patient's build and artifacts of its own. Narrow cohorts show one phase and one scanner, as those of
    older versions."""
    phases: tuple[ContrastPhase, ...] = Field(
        ("unenhanced", "corticomedullary", "nephrographic", "excretory"), min_length=1
    )
    """Contrast phases of wide cohorts."""
    kernels: tuple[ReconstructionKernel, ...] = Field(("smooth", "standard", "sharp"), min_length=1)
    """Reconstruction kernels of wide cohorts."""
    builds: tuple[Build, ...] = Field(("slim", "medium", "broad"), min_length=1)
    """Builds of the patients of wide cohorts."""


class PrepareConfig(Section):
    """Configuration of the preparation, from scans to a store of regions of interest (ROIs)."""

    study_key: ClassVar[str] = "prepare"
    added: ClassVar[frozenset[str]] = frozenset({"labels", "localiser_steps", "localiser_start", "localiser_phantoms"})

    labels: Labels = KIDNEY_TUMOR
    """The labels of the label maps."""
    spacing_mm: Spacing | None = (1.0, 0.65, 0.65)
    """Voxel spacing of the ROIs (z, y, x). With null, each scan keeps its own spacing and is not resampled. The
    distance of slices is reconstruction: volumes, shares and number of slices in the paper make 0.5 to 0.7 mm."""
    window_mm: float = Field(97.5, gt=0, le=1000)
    """Side of an ROI in-plane, 150 pixels of 0.65 mm in the paper. It grows if a kidney does not fit."""
    margin_mm: float = Field(10.0, ge=0, le=1000)
    """Margin around the kidney along z, and in-plane where the ROI grows."""
    localise: Literal["auto", "network", "atlas", "cut"] = "auto"
    """How kidneys are found. `network` uses a coarse network, with the atlases as a second opinion. `atlas` registers
    the atlases alone, as in the paper. `cut` takes each scan as an ROI. `auto` decides by the scan's field of view
    between `cut` and `network`."""
    localiser_steps: int = Field(150, ge=0, le=1_000_000)
    """Steps for which the coarse network is trained further on the training patients' scans. It begins from the one
    that the package ships, which painted phantoms have taught. With 0 that one is used as it is."""
    localiser_start: Literal["packaged", "random"] = "packaged"
    """Weights that the training of the coarse network begins from: those of the package, or random ones."""
    localiser_phantoms: int = Field(0, ge=0, le=1_000_000)
    """Painted phantoms that the coarse network learns from in addition: whole abdomens with pelvis and chest, and for
    every six of them a head, a chest and legs, which have no kidneys."""
    num_atlases: int = Field(8, ge=1)
    """Number of atlases; eight in the paper."""
    atlas_spacing_mm: SpacingMm = 6.0
    """Isotropic voxel spacing of the atlases (reconstruction)."""
    validation_share: float = Field(0.2, ge=0, lt=1)
    """Share of the training patients that is used for validation, to select the model. Never a test patient."""
    test_share: float = Field(0.25, ge=0, lt=1)
    """Share of all patients in the test split, if neither a test cohort nor a splits file is given (paper: 50 of
    140)."""
    seed: Seed = 0
    """Seed of the split and of the choice of the patients that become atlases."""
    hu_min: CtNumber = -200
    """Lower limit of the intensities, which are clipped and then scaled to 0-1."""
    hu_max: CtNumber = 500
    """Upper limit of the intensities."""
    slab_slices: int = Field(8, ge=1, le=1024)
    """Slices of a slab, which is one row of the store. A crop reads only the slabs that it overlaps."""
    shard_mb: int = Field(64, ge=1, le=2**16)
    """Target size of a shard, in MiB. A case is never split over two shards."""

    @model_validator(mode="after")
    def _window_is_a_range(self) -> Self:
        _require_window(self.hu_min, self.hu_max)
        return self


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Normalisation:
    """Conversion of CT numbers to network input: clip, scale to 0-1, subtract the training mean (paper, III.B.1)."""

    hu_min: CtNumber
    """Lower bound of clipping, which becomes 0."""
    hu_max: CtNumber
    """Upper bound of clipping, which becomes 1."""
    mean: Annotated[float, Field(ge=0, le=1)]
    """Mean of the clipped and scaled training ROIs, 0-1."""

    def apply(self, image: HuArray) -> FloatArray:
        """Return HU of any shape as float32 of the same shape, in [-mean, 1 - mean]."""
        # In place: temporary arrays of an ROI would take three times its memory.
        scaled = np.clip(image, self.hu_min, self.hu_max).astype(np.float32)
        scaled -= np.float32(self.hu_min)
        scaled /= np.float32(self.hu_max - self.hu_min)
        scaled -= np.float32(self.mean)
        return scaled

    @model_validator(mode="after")
    def _window_is_a_range(self) -> Self:
        _require_window(self.hu_min, self.hu_max)
        return self


def _require_window(hu_min: int, hu_max: int) -> None:
    if hu_min >= hu_max:
        raise ValueError(f"hu_min {hu_min} must be below hu_max {hu_max}; lower one or raise the other")
