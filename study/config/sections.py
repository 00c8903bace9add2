"""The configuration of a study: the method's own sections, and how they are searched."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from renalnet.config import (
    InferenceConfig,
    PhantomConfig,
    PrepareConfig,
    Section,
    TrainConfig,
)
from renalnet.config.networks import MAIN_NETWORK, PAPER_BASELINES, NetName

RANGES: Final = (
    "tumor_weight",
    "background_weight",
    "first_step",
    "step_gap",
    "base_rate",
    "rate_decay",
    "weight_decay",
    "tumor_share",
)
"""Fields of the space from low to high."""
CHOICES: Final = ("kernel_sets", "batch_size", "width")
"""Fields of the space that list what to choose from."""


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
    base_rate: tuple[float, float] | None = None
    """Range of the first epoch's learning rate, log scale; none, here and below: not searched."""
    rate_decay: tuple[float, float] | None = None
    """Range of the factor by which the rate falls, log scale."""
    weight_decay: tuple[float, float] | None = None
    """Range of the L2 regularisation, log scale."""
    tumor_share: tuple[float, float] | None = None
    """Range of the share of crops that are centred near a tumor."""
    batch_size: tuple[PositiveInt, ...] | None = None
    """Crops a step to choose from."""
    width: tuple[Annotated[int, Field(ge=4)], ...] | None = None
    """Channels at full resolution to choose from; a baseline takes the width at which it costs as much."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in RANGES:
            low, high = getattr(self, name) or (1, 1)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} must be a range from low to high, above 0")
        for name in CHOICES:
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise ValueError(f"{name} {values} must hold a value or more, each once")
        if self.rate_decay and self.rate_decay[1] >= 1:
            raise ValueError(f"rate_decay {self.rate_decay} must lie below 1, or the rate would not fall")
        if any(kernel < 1 for kernels in self.kernel_sets for kernel in kernels):
            raise ValueError(f"kernel_sets {self.kernel_sets} must be sets of kernels of 1 or more")
        return self

    def is_within(self, wider: "SpaceConfig") -> bool:
        """Whether every point of this space is one of `wider`'s, and it searches the same parameters."""
        ranges = [(getattr(self, name), getattr(wider, name)) for name in RANGES]
        choices = [(getattr(self, name), getattr(wider, name)) for name in CHOICES]
        return all((own is None) == (other is None) for own, other in ranges + choices) and (
            all(own is None or other[0] <= own[0] <= own[1] <= other[1] for own, other in ranges)
            and all(own is None or set(own) <= set(other) for own, other in choices)
        )


class SearchConfig(Section):
    """How the space is searched."""

    num_trials: int = Field(64, ge=1)
    """Trials of 3D_FCN_PPM; the first one always runs the values of `train`, by default the paper's."""
    baseline_trials: int = Field(64, ge=1)
    """Trials of each baseline, in the same space without the kernels; 1 runs it at the values of `train` only."""
    baselines: tuple[NetName, ...] = PAPER_BASELINES
    """Networks to compare with."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Who draws the points: multivariate TPE, uniform draws, or a grid of `grid_levels` a range in random order."""
    objective: Literal["mean", "pareto"] = "mean"
    """`mean` of kidney and tumor Dice; `pareto` searches both at once, prunes nothing and ranks by the mean."""
    num_startup_trials: int = Field(10, ge=1)
    """Random trials before TPE learns from them."""
    grid_levels: int = Field(3, ge=1)
    """Values of each range in a grid, evenly spaced on its scale; whole numbers are taken one by one."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Who prunes: successive halving, the median of the other trials' running means, or nobody."""
    grace_epochs: int = Field(1, ge=1)
    """A trial is first judged so many epochs after its own first learning-rate step. Before it, those lead whose rate
    falls early; behind it, trials are compared at the same distance from their step, whatever epoch that is."""
    reduction_factor: int = Field(4, ge=2)
    """At each rung, grace_epochs · reduction_factor^k behind the step, the best 1/reduction_factor go on (`asha`)."""
    kept_models: int = Field(5, ge=1)
    """Trials of each network that keep weights and checkpoint: the best ones, and all that are running."""

    @model_validator(mode="after")
    def _baselines_are_others(self) -> Self:
        if MAIN_NETWORK in self.baselines or len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines {self.baselines} must be different networks, and not {MAIN_NETWORK}")
        return self

    @property
    def pruner(self) -> Literal["asha", "median", "none"]:
        """`scheduler`, but nobody where two objectives are searched at once: a rung has no order then."""
        return "none" if self.objective == "pareto" else self.scheduler


class ResourceConfig(Section):
    """What a trial occupies."""

    cpus_per_trial: int = Field(1, ge=1)
    """Processor slots, and threads, of a trial."""
    gpus_per_trial: float = Field(1.0, gt=0)
    """GPUs of a trial, where the cluster has any; a fraction shares one."""
    max_concurrent: int = Field(0, ge=0)
    """Trials at once at most; 0: as many as the cluster holds. With 1 a study repeats exactly, whatever befalls it."""
    scale_to: int = Field(0, ge=0)
    """Trials at once, on GPUs, that a cluster which starts nodes on demand grows to; 0: no nodes but those at hand."""
    max_failures: int = Field(2, ge=0)
    """Times that a trial whose process or node is lost goes on from its last checkpoint."""

    @model_validator(mode="after")
    def _gpus_are_whole_above_one(self) -> Self:
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(
                f"gpus_per_trial {self.gpus_per_trial:g}: Ray shares one GPU; name a fraction up to 1, or whole GPUs"
            )
        return self


class FinalConfig(InferenceConfig):
    """The final stage: full inference of the paper with the best checkpoints.

    The choice of the post-processing starts from the parameters of its operations here.
    """

    tuning_trials: int = Field(24, ge=0)
    """Fields that are tried on each candidate's validation patients beside `crf`, and with them volumes below which a
    tumor is none; 0: both are taken as they are. Steps that lower the tumor Dice there are off in any case."""
    num_finalists: int = Field(5, ge=1)
    """Configurations of 3D_FCN_PPM, the best of the search, that compete on the validation patients."""
    seeds: int = Field(1, ge=1)
    """Runs of each finalist, and of the best of each baseline, over as many seeds: the search's own and the next ones;
    their networks are an ensemble. 1: none beside the search's."""
    folds: int = Field(0, ge=0)
    """Runs of each finalist on folds of the training and validation patients, 2 or more; 0: none."""

    @property
    def inference(self) -> InferenceConfig:
        """The part that a single network needs."""
        return InferenceConfig(**{name: getattr(self, name) for name in InferenceConfig.model_fields})

    @model_validator(mode="after")
    def _folds_are_some(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds 1 would leave nobody to train on; it must be 2 or more, or 0 for none")
        return self


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
    def _train_is_the_first_trial(self) -> Self:
        """Fields that the study sets itself are left alone, and the first trial's three steps can be searched."""
        if self.train.net.name != MAIN_NETWORK or self.train.seed:
            raise ValueError("train.net.name and train.seed are the study's own; set search.baselines and seed instead")
        if len(self.train.optim.milestones) != 3:
            raise ValueError(f"train.optim.milestones {self.train.optim.milestones} must be three, as the search's are")
        return self

    @model_validator(mode="after")
    def _finalists_are_kept(self) -> Self:
        if self.final.num_finalists > self.search.kept_models:
            raise ValueError(
                f"final.num_finalists {self.final.num_finalists} must not exceed search.kept_models "
                f"{self.search.kept_models}, which says whose weights are kept"
            )
        return self

    @model_validator(mode="after")
    def _crops_have_a_centre(self) -> Self:
        shares = (self.space.tumor_share or (0, 0))[1] + self.train.patch.kidney_share
        if shares > 1:
            raise ValueError(f"space.tumor_share and train.patch.kidney_share add up to {shares:g}, more than 1")
        return self


@dataclass(frozen=True)
class Slots:
    """What a trial occupies, and how many trials fit at once."""

    cpus: int
    gpus: float
    num_slots: int
