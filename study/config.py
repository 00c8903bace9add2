"""The configuration of a study: the method's own sections, and how they are searched."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from renalnet.config import CrfConfig, PhantomConfig, PrepareConfig, Section, StitchConfig, TrainConfig
from renalnet.types import NetName


class SpaceConfig(Section):
    """What is searched: pooling kernels, class weights, learning-rate steps. Kidney's weight is the unit, 1.0."""

    kernel_sets: tuple[tuple[int, ...], ...] = (
        (2, 4, 8, 16),
        (2, 4, 8),
        (4, 8, 16),
        (1, 2, 4, 8),
        (2, 8),
        (),
    )
    """Sets of pooling kernels; the empty set is the network without its pyramid pooling module."""
    tumor_weight: tuple[float, float] = (0.5, 8.0)
    """Range of the tumor's class weight, searched on a log scale."""
    background_weight: tuple[float, float] = (0.05, 0.8)
    """Range of the background's class weight, searched on a log scale."""
    first_step: tuple[int, int] = (2, 5)
    """Range of the first epoch at which the learning rate falls."""
    step_gap: tuple[int, int] = (1, 3)
    """Range of the epochs between two falls; three falls in all, as in the paper."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("tumor_weight", "background_weight", "first_step", "step_gap"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} must be a range from low to high, above 0")
        if not self.kernel_sets or any(kernel < 1 for kernels in self.kernel_sets for kernel in kernels):
            raise ValueError(f"kernel_sets {self.kernel_sets} must hold a set or more, of kernels of 1 or more")
        return self


class SearchConfig(Section):
    """How the space is searched."""

    num_trials: int = Field(64, ge=1)
    """Trials of 3D_FCN_PPM; the first one always runs the paper's own values."""
    baseline_trials: int = Field(64, ge=1)
    """Trials of each baseline, in the same space without the kernels; 1 runs it at the paper's values only."""
    baselines: tuple[NetName, ...] = ("unet3d", "pspnet2d")
    """Networks to compare with."""
    num_startup_trials: int = Field(10, ge=1)
    """Random trials before TPE learns from them."""
    grace_epochs: int = Field(6, ge=1)
    """No trial is pruned before this epoch; past the first learning-rate step of any trial, since before it those
    whose rate falls early lead."""
    reduction_factor: int = Field(3, ge=2)
    """At each rung the best 1/reduction_factor of the trials go on."""

    @property
    def budget(self) -> dict[NetName, int]:
        """Trials of each network, in the order in which they run."""
        return {"fcn_ppm": self.num_trials, **dict.fromkeys(self.baselines, self.baseline_trials)}

    @model_validator(mode="after")
    def _baselines_are_others(self) -> Self:
        if "fcn_ppm" in self.baselines or len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines {self.baselines} must be different networks, and not fcn_ppm")
        return self


class ResourceConfig(Section):
    """What a trial occupies."""

    cpus_per_trial: int = Field(1, ge=1)
    """Processor slots, and threads, of a trial."""
    gpus_per_trial: float = Field(1.0, gt=0)
    """GPUs of a trial, where the cluster has any; a fraction shares one."""
    max_failures: int = Field(2, ge=0)
    """Times that a trial whose process or node is lost goes on from its last checkpoint."""


class FinalConfig(Section):
    """The final stage: the paper's full inference on the best checkpoints."""

    stitch: StitchConfig = StitchConfig()
    """Sub-volumes and their overlap."""
    crf: CrfConfig = CrfConfig()
    """The dense conditional random field."""
    num_finalists: int = Field(5, ge=1)
    """Best checkpoints of 3D_FCN_PPM that compete on the validation patients."""


class StudyConfig(Section):
    """A whole study, from scans to report."""

    preset: Literal["quick", "anatomy", "paper"] = "paper"
    """Where this configuration started from."""
    seed: int = Field(0, ge=0)
    """Of the searcher and of every trial."""
    phantom: PhantomConfig = PhantomConfig()
    """The synthetic cohort, where no store is given."""
    prepare: PrepareConfig = PrepareConfig()
    """How that cohort is prepared."""
    train: TrainConfig = TrainConfig()
    """What every trial shares; its searched values are the paper's, the first trial's."""
    space: SpaceConfig = SpaceConfig()
    """What is searched."""
    search: SearchConfig = SearchConfig()
    """How it is searched."""
    resources: ResourceConfig = ResourceConfig()
    """What a trial occupies."""
    final: FinalConfig = FinalConfig()
    """The final stage."""

    @model_validator(mode="after")
    def _train_is_searchable(self) -> Self:
        """The first trial is a point of the space, and fields that the study sets itself are left alone."""
        first, *_ = self.train.optim.milestones
        for name, value, (low, high) in (
            ("tumor_weight", self.train.loss.tumor, self.space.tumor_weight),
            ("background_weight", self.train.loss.background, self.space.background_weight),
            ("first_step", first, self.space.first_step),
        ):
            if not low <= value <= high:
                raise ValueError(f"space.{name} {(low, high)} must hold the first trial's value {value}")
        if self.train.net.name != "fcn_ppm" or self.train.seed:
            raise ValueError("train.net.name and train.seed are the study's own; set search.baselines and seed instead")
        return self

    @model_validator(mode="after")
    def _paper_is_searchable(self) -> Self:
        if self.train.net.ppm_kernels not in self.space.kernel_sets:
            raise ValueError(f"space.kernel_sets must hold train.net.ppm_kernels {self.train.net.ppm_kernels}")
        if len(self.train.optim.milestones) != 3:
            raise ValueError(f"train.optim.milestones {self.train.optim.milestones} must be three, as the search's are")
        return self


@dataclass(frozen=True)
class Slots:
    """What a trial occupies, and how many trials fit at once."""

    cpus: int
    gpus: float
    num_slots: int
