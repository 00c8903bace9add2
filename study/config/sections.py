"""The sections of a study's configuration: data and training as in `renalnet`, the search, and the final stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from renalnet.config import (
    KIDNEY_TUMOR,
    InferenceConfig,
    LabelSet,
    PhantomConfig,
    PrepareConfig,
    Section,
    TrainConfig,
)
from renalnet.config.labels import Labels, stated_labels
from renalnet.config.networks import MAIN_NETWORK, PAPER_BASELINES, NetName
from renalnet.config.section import Seed
from renalnet.config.training import SHARE_SUFFIX
from renalnet.data.cases.splits import MIN_VALIDATION
from renalnet.errors import nearest
from study.config.catalogue import PrunerName, SamplerName

Range = tuple[float, float]
_Kernel = Annotated[int, Field(le=512)]
_Epochs = Annotated[int, Field(le=1_000_000)]
WEIGHT_SUFFIX: Final = "_weight"
"""End of the fields of the space that are the range of a label's class weight."""

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
"""Fields of the space that are a range from low to high."""
CHOICES: Final = ("kernel_sets", "batch_size", "width")
"""Fields of the space that are a list of values to choose from."""


class SpaceConfig(Section):
    """The search space: pooling kernels, class weights, milestones. The kidney's class weight is the unit.

    A further field, named as a label with `_weight` or `_share`, is the range of the label's class weight, on a log
    scale, or of its share of the crops.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Range]

    kernel_sets: tuple[tuple[_Kernel, ...], ...] = (
        (2, 4, 8, 16),
        (2, 4, 8),
        (4, 8, 16),
        (1, 2, 4, 8),
        (2, 8),
        (),
    )
    """Sets of pooling kernels; the empty set is the network without the pyramid pooling module."""
    # This range and the next one reach from a quarter of the paper's weight to four times that weight.
    tumor_weight: tuple[float, float] = (0.5, 8.0)
    """Range of the tumor's class weight, searched on a log scale."""
    background_weight: tuple[float, float] = (0.05, 0.8)
    """Range of the background's class weight, searched on a log scale."""
    first_step: tuple[_Epochs, _Epochs] = (2, 5)
    """Range of the first milestone."""
    step_gap: tuple[_Epochs, _Epochs] = (1, 3)
    """Range of the epochs between two milestones. There are three milestones, as in the paper."""
    base_rate: tuple[float, float] | None = None
    """Range of the learning rate of the first epoch, on a log scale. None, here and below: not searched."""
    rate_decay: tuple[float, float] | None = None
    """Range of the factor by which the learning rate drops, on a log scale; below 1."""
    weight_decay: tuple[float, float] | None = None
    """Range of the weight decay, on a log scale."""
    tumor_share: tuple[float, float] | None = None
    """Range of the share of crops that are centred near a tumor."""
    batch_size: tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None = None
    """Numbers of crops per step to choose from."""
    width: tuple[Annotated[int, Field(ge=4, le=1024)], ...] | None = None
    """Numbers of channels at full resolution to choose from. A baseline has the width at which it costs the same."""

    @property
    def ranges(self) -> dict[str, Range | None]:
        """The range of each field that is one, those of further labels last; None where it is not searched."""
        return {name: getattr(self, name) for name in RANGES} | self.ranges_of_labels

    @property
    def ranges_of_labels(self) -> dict[str, Range]:
        """The ranges that are no field of this class."""
        return dict(self.__pydantic_extra__)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, limits in self.ranges.items():
            # A valid range stands for one that is not searched.
            low, high = limits or (1, 1)
            # Above 0, because most of the ranges are searched on a log scale.
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)}: must be a range (low, high) of values above 0")
        for name in CHOICES:
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise ValueError(f"{name} {values}: must have at least one value, and each value once")
        if self.rate_decay and self.rate_decay[1] >= 1:
            raise ValueError(f"rate_decay {self.rate_decay}: must be below 1, so that the learning rate drops")
        if any(kernel < 1 for kernels in self.kernel_sets for kernel in kernels):
            raise ValueError(f"kernel_sets {self.kernel_sets}: every kernel must be 1 or more")
        return self

    def is_within(self, wider: "SpaceConfig") -> bool:
        """Whether this space searches the same parameters as `wider`, and each of its points is a point of `wider`."""
        names = self.ranges.keys() | wider.ranges.keys()
        ranges = [(self.ranges.get(name), wider.ranges.get(name)) for name in names]
        choices = [(getattr(self, name), getattr(wider, name)) for name in CHOICES]
        return all((own is None) == (other is None) for own, other in ranges + choices) and (
            all(own is None or other is None or other[0] <= own[0] <= own[1] <= other[1] for own, other in ranges)
            and all(own is None or set(own) <= set(other) for own, other in choices)
        )


class SearchConfig(Section):
    """How the space is searched."""

    added: ClassVar[frozenset[str]] = frozenset({"exploration"})
    # Earlier versions searched on any number.
    before: ClassVar[Mapping[str, Any]] = {"min_validation_cases": 1}

    num_trials: int = Field(64, ge=1, le=1_000_000)
    """Trials of 3D_FCN_PPM. The first one always has the values of `train`, by default the paper's."""
    baseline_trials: int = Field(64, ge=1, le=1_000_000)
    """Trials of each baseline, in the same space without kernels; with 1, only the values of `train` are run."""
    baselines: tuple[NetName, ...] = PAPER_BASELINES
    """Names of the networks that 3D_FCN_PPM is compared with."""
    sampler: SamplerName = "tpe"
    """How points are drawn: a name in `SAMPLERS`."""
    objective: Literal["mean", "pareto"] = "mean"
    """`mean` Dice of the labels, or `pareto`: the Dice of each label is searched, nothing is pruned, and the mean ranks
    trials."""
    # On recorded curves, 3 to 20 made no difference (results/LOG.md).
    num_startup_trials: int = Field(10, ge=1)
    """Random trials before TPE learns from them."""
    exploration: float = Field(1.0, ge=0, le=10)
    """Weight of the uncertainty when `gp` chooses a point: the number of standard deviations that are added to the
    expected objective."""
    grid_levels: int = Field(3, ge=1, le=10_000)
    """Values per range in a grid, evenly spaced on the range's scale. A range of integers has all of its values."""
    scheduler: PrunerName = "asha"
    """The pruner: a name in `PRUNERS`."""
    # One epoch after its first milestone a trial's rank agrees with its final rank by 0.95 on recorded curves, at the
    # milestone by 0.63 (results/LOG.md).
    grace_epochs: int = Field(1, ge=1)
    """Epochs after a trial's own first milestone until it is first compared with others. Before its first milestone, a
    trial would lead only because its learning rate drops early. So trials are compared at the same age, whatever the
    epoch is."""
    # On recorded curves, 3 to 8 made no difference beyond the noise, and 2 did worse (results/LOG.md).
    reduction_factor: int = Field(4, ge=2)
    """Inverse of the share of trials that continue at a rung of `asha`. Rung k has the age
    grace_epochs · reduction_factor^k."""
    kept_models: int = Field(5, ge=1)
    """Number of the best trials of each network that keep weights and checkpoints. Running trials keep theirs too."""
    min_validation_cases: int = Field(MIN_VALIDATION, ge=1)
    """Fewest validation cases on which a study searches. A store with fewer is refused, unless `final.folds` lets folds
    choose the winner."""

    @model_validator(mode="after")
    def _baselines_are_others(self) -> Self:
        if MAIN_NETWORK in self.baselines or len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines {self.baselines}: must be different networks other than {MAIN_NETWORK}")
        return self

    @model_validator(mode="after")
    def _gp_has_one_objective(self) -> Self:
        if self.sampler == "gp" and self.objective == "pareto":
            raise ValueError("sampler gp learns from one objective; with objective pareto, choose tpe, random or grid")
        return self

    @property
    def pruner(self) -> PrunerName:
        """The pruner in use: `scheduler`, but `none` with two objectives, which do not order trials."""
        return "none" if self.objective == "pareto" else self.scheduler


class ResourceConfig(Section):
    """The slot of a trial, and how many trials run at once."""

    cpus_per_trial: int = Field(1, ge=1)
    """Processors and threads of a trial."""
    gpus_per_trial: float | None = Field(None, gt=0)
    """GPUs of a trial; with a fraction, trials share a GPU. None: one if the cluster has any, else none."""
    max_concurrent: int = Field(0, ge=0)
    """Maximum number of trials at once; 0: as many as the cluster has slots. With 1, a study is reproducible exactly,
    also after interruptions."""
    scale_to: int = Field(0, ge=0)
    """Number of trials on GPUs for which a cluster that starts nodes on demand grows; 0: the cluster does not grow."""
    max_failures: int = Field(2, ge=0)
    """How often a trial whose process or node was lost is resumed from its last checkpoint."""

    @model_validator(mode="after")
    def _gpus_are_whole_above_one(self) -> Self:
        if self.gpus_per_trial and self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(
                f"gpus_per_trial {self.gpus_per_trial:g}: Ray shares only a single GPU; use a fraction up to 1, or a "
                "whole number"
            )
        return self

    @property
    def gpus(self) -> float:
        """GPUs of a trial on a cluster that has any."""
        return self.gpus_per_trial or 1.0


class FinalConfig(InferenceConfig):
    """The final stage: full inference of the paper with the models of the finalists.

    The choice of the post-processing starts from the parameters of its operations here.
    """

    tuning_trials: int = Field(24, ge=0)
    """Parameters of the dense CRF that are tried on each finalist's validation cases in addition to `crf`. Minimum
    tumor volumes are tried as well. 0: all parameters stay as they are. In any case, an operation that lowers the
    tumor Dice of the validation cases is not used."""
    num_finalists: int = Field(5, ge=1)
    """Number of the best configurations of 3D_FCN_PPM that compete on the validation cases."""
    seeds: int = Field(1, ge=1, le=1000)
    """Number of seeds of each finalist: the seed of the search and the following ones. The networks of these runs are
    an ensemble. 1: no repeats."""
    folds: int = Field(0, ge=0, le=1000)
    """Number of folds of the training and validation cases on which each finalist of 3D_FCN_PPM is repeated, 2 or more;
    0: none. Where there are fewer than 5 validation cases, the mean objective over the folds chooses the winner."""

    @property
    def inference(self) -> InferenceConfig:
        """The part of the configuration that a model bundle states."""
        return InferenceConfig(**{name: getattr(self, name) for name in InferenceConfig.model_fields})

    @model_validator(mode="after")
    def _folds_are_some(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds 1: no case would be left for training; set 2 or more, or 0 for no folds")
        return self


class StudyConfig(Section):
    """The configuration of a study, from scans to report.

    The class weights of the tumor and of the label set's other lesions are searched.
    """

    added: ClassVar[frozenset[str]] = frozenset({"labels"})

    labels: Labels = KIDNEY_TUMOR
    """The labels of the study: a built-in set, a YAML file, or a mapping of `name` and `labels`."""
    preset: Literal["quick", "anatomy", "paper", "phantom"] = "paper"
    """Name of the preset from which this configuration started."""
    seed: Seed = 0
    """Seed of the searcher and of every trial."""
    phantom: PhantomConfig = PhantomConfig()
    """The synthetic cohort, which is used where no store is named."""
    prepare: PrepareConfig = PrepareConfig()
    """Preparation of that cohort."""
    train: TrainConfig = TrainConfig()
    """Training configuration of the first trial, by default the paper's. Other trials replace the searched values."""
    space: SpaceConfig = SpaceConfig()
    """The search space."""
    search: SearchConfig = SearchConfig()
    """How points are drawn, and how trials are pruned."""
    resources: ResourceConfig = ResourceConfig()
    """The slot of a trial."""
    final: FinalConfig = FinalConfig()
    """The final stage."""

    @model_validator(mode="before")
    @classmethod
    def _search_all_lesions(cls, values: Any) -> Any:
        labels = stated_labels(values)
        if labels is None:
            return values
        given = values.get("space", {})
        space = given.model_dump() if isinstance(given, Section) else given
        return {**values, "space": {**_lesion_ranges(labels), **space}} if isinstance(space, Mapping) else values

    @model_validator(mode="after")
    def _labels_are_one_set(self) -> Self:
        for name in ("phantom", "prepare", "train"):
            if getattr(self, name).labels != self.labels:
                raise ValueError(f"{name}.labels: differs from labels; set only labels, which applies to all sections")
        names = [label.name for label in self.labels.labels if label != self.labels.kidney]
        known = [name + end for name in names for end in (WEIGHT_SUFFIX, SHARE_SUFFIX)]
        for name in self.space.__pydantic_extra__:
            if name not in known:
                raise ValueError(f"unknown key 'space.{name}'; {nearest(name, [*SpaceConfig.model_fields, *known])}")
        return self

    @model_validator(mode="after")
    def _train_is_the_first_trial(self) -> Self:
        """Check the fields of `train` that the study sets itself, and the number of milestones."""
        if self.train.net.name != MAIN_NETWORK or self.train.seed:
            raise ValueError("train.net.name, train.seed: set by the study; set search.baselines and seed instead")
        milestones = self.train.optim.milestones
        if len(milestones) != 3:
            raise ValueError(f"train.optim.milestones {milestones}: must be three, as the search draws three")
        return self

    @model_validator(mode="after")
    def _finalists_are_kept(self) -> Self:
        if self.final.num_finalists > self.search.kept_models:
            raise ValueError(
                f"final.num_finalists {self.final.num_finalists}: must not exceed search.kept_models "
                f"{self.search.kept_models}, because only these trials keep their weights"
            )
        return self

    @model_validator(mode="after")
    def _crops_have_a_centre(self) -> Self:
        # The upper end, because every point of the space must be a valid configuration.
        searched = {f"space.{name}": limits[1] for name, limits in self.space.ranges.items() if limits}
        shares: dict[str, float] = {}
        for label in reversed(self.labels.labels):
            name = f"space.{label.name}{SHARE_SUFFIX}"
            fixed = {f"train.patch.{label.name}{SHARE_SUFFIX}": self.train.patch.shares(self.labels)[label.value]}
            shares |= {name: searched[name]} if name in searched else fixed
        if (total := sum(shares.values())) > 1:
            raise ValueError(f"{', '.join(shares)}: add up to {total:g}; lower one of them to a sum of 1")
        return self


def _lesion_ranges(labels: LabelSet) -> dict[str, Range]:
    """Return the ranges of the weights of the lesions beside the tumor, whose range is a field of the space."""
    # From a quarter of the label's weight to four times that weight, as the tumor's.
    return {
        lesion.name + WEIGHT_SUFFIX: (lesion.loss_weight / 4, lesion.loss_weight * 4)
        for lesion in labels.lesions
        if lesion != labels.tumor
    }


@dataclass(frozen=True)
class Cluster:
    """Size of a Ray cluster."""

    num_nodes: int
    num_cpus: int
    num_gpus: int


@dataclass(frozen=True)
class Slots:
    """The slots of a cluster."""

    cpus: int
    """Processors of a slot."""
    gpus: float
    """GPUs of a slot; 0 on a cluster without GPUs."""
    num_slots: int
    """Number of trials that run at once."""
    are_gpus_fake: bool = False
    """Whether the GPUs are only numbers, by which Ray places trials on a machine that has none."""

    @property
    def real_gpus(self) -> float:
        """GPUs of a slot whose hours count; 0 where they are fake."""
        return 0.0 if self.are_gpus_fake else self.gpus
