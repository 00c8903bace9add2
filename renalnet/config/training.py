"""Configuration of a training run."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, model_validator

from renalnet.config.catalogue import name_in, names_of
from renalnet.config.inference import StitchConfig
from renalnet.config.labels import KIDNEY_TUMOR, Labels, LabelSet, stated_labels
from renalnet.config.losses import LossConfig
from renalnet.config.networks import NetConfig
from renalnet.config.section import Section, Seed, Voxels
from renalnet.errors import nearest

SHARE_SUFFIX: Final = "_share"
"""End of the fields of `PatchConfig` that belong to a label."""
PACKAGED: Final = "packaged"
"""Word that names the model bundle of the package, where a path of a bundle is expected."""


_MAX_BLUR_VOXELS: Final = 100
"""Largest blur; a crop is not much larger."""
OPTIMIZERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # With momentum, the paper's.
        "sgd": "renalnet.train.optimizers:sgd_of",
        # Adam with decoupled weight decay; learns faster in short runs.
        "adamw": "renalnet.train.optimizers:adamw_of",
    }
)
"""Every optimiser as `module:function`, a `renalnet.train.optimizers.MakeOptimizer`."""

OptimizerName = Annotated[str, name_in(OPTIMIZERS, "optimizer"), names_of(OPTIMIZERS)]
"""A name in `OPTIMIZERS`; configurations validate it."""


class OptimConfig(Section):
    """Optimiser with a multistep schedule. The default is SGD, as in the paper (III.B.3)."""

    added: ClassVar[frozenset[str]] = frozenset({"name"})

    name: OptimizerName = "sgd"
    """A name in `OPTIMIZERS`."""
    base_rate: float = Field(0.001, gt=0)
    """Learning rate before the first milestone."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD; for AdamW the decay of its first moment."""
    weight_decay: float = Field(1e-5, ge=0)
    """Weight of the L2 regularisation; for AdamW of its decoupled weight decay."""
    milestones: tuple[int, ...] = (3, 5, 7)
    """Epochs after which the learning rate is multiplied by `rate_decay`."""
    rate_decay: float = Field(0.1, gt=0, lt=1)
    """Factor at each milestone (reconstruction: the paper gives only the milestones)."""
    batch_size: int = Field(4, ge=1, le=4096)
    """Crops per step."""
    micro_batch: int = Field(0, ge=0)
    """Crops that go through the network at once; 0 means the whole batch. Their gradients are summed to the gradient of
    the batch. The run halves this number when memory runs out. BatchNorm normalises over this many crops."""
    clip_norm: float = Field(10.0, gt=0)
    """Largest norm of the gradient. A longer gradient is scaled down, so that one unusual crop cannot end a run
    (reconstruction)."""

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)) or any(m < 1 for m in self.milestones):
            raise ValueError(
                f"milestones {self.milestones} must be increasing epochs from 1; sort them and remove repeated ones"
            )
        return self


class PatchConfig(Section):
    """Random crops and flips. Crops are drawn more often near kidney and tumor (paper, III.B.2).

    A further field, named as a label with `_share`, is the share of crops centred near a voxel of the label, such as
    `tumor_share` (reconstruction). The other crops are anywhere in the ROI.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NonNegativeFloat]

    shape: Voxels = (64, 150, 150)
    """Voxels of a crop (z, y, x)."""
    flip: bool = True
    """Whether each axis is flipped with probability 1/2."""

    def shares(self, labels: LabelSet) -> dict[int, float]:
        """Return the share of each label by its value, the last label first.

        A label without a field of its own has its `crop_share`.
        """
        given = self.__pydantic_extra__
        # The last labels are the rarest, and are drawn first, as the tumor before the kidney.
        return {
            label.value: given.get(label.name + SHARE_SUFFIX, label.crop_share) for label in reversed(labels.labels)
        }

    @model_validator(mode="after")
    def _shares_are_shares(self) -> Self:
        if sum(self.__pydantic_extra__.values()) > 1:
            terms = " + ".join(f"{name} {share}" for name, share in reversed(self.__pydantic_extra__.items()))
            raise ValueError(f"{terms} must be at most 1; lower one")
        return self


class Chance(Section):
    """Probability and range of one augmentation."""

    probability: float = Field(0.0, ge=0, le=1)
    """Probability that a crop is augmented."""
    range: tuple[float, float]
    """Lowest and highest value. The value for a crop is drawn uniformly between them."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.range[0] > self.range[1]:
            raise ValueError(f"range {self.range} must be [low, high] with low at most high; swap the two values")
        return self


class AugmentConfig(Section):
    """Augmentations beyond the paper's flips. Each is off until its probability is above 0.

    They are applied to crops, on the GPU if there is one.
    """

    degrees: Chance = Chance(range=(-10.0, 10.0))
    """Rotation in-plane, in degrees."""
    zoom: Chance = Chance(range=(0.9, 1.1))
    """Factor on all axes. Above 1, the anatomy becomes larger."""
    blur_voxels: Chance = Chance(range=(0.5, 1.0))
    """Standard deviation of a Gaussian blur, in voxels."""
    noise_hu: Chance = Chance(range=(5.0, 20.0))
    """Standard deviation of white Gaussian noise, in HU."""
    shift_hu: Chance = Chance(range=(-30.0, 30.0))
    """Offset of all intensities, in HU."""
    contrast: Chance = Chance(range=(0.85, 1.15))
    """Factor of the intensities' distance from the middle of their range."""
    # The bounds are reciprocal, so darkening is as strong as brightening.
    gamma: Chance = Chance(range=(0.8, 1.25))
    """Exponent of the intensities, which are scaled to 0-1."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        # Zoom and blur divide by their value, and a contrast or gamma of 0 leaves a flat image. Noise of 0 is harmless.
        for name in ("zoom", "blur_voxels", "contrast", "gamma"):
            if getattr(self, name).range[0] <= 0:
                raise ValueError(f"{name}.range {getattr(self, name).range} must be above 0; raise its lower end")
        if self.noise_hu.range[0] < 0:
            raise ValueError(f"noise_hu.range {self.noise_hu.range} must not be negative; raise its lower end")
        if self.blur_voxels.range[1] > _MAX_BLUR_VOXELS:
            raise ValueError(
                f"blur_voxels.range {self.blur_voxels.range} must be at most {_MAX_BLUR_VOXELS}; lower its upper end"
            )
        return self


class LoaderConfig(Section):
    """How cases become batches. Only `window` and `visit` change which crops are drawn."""

    window: int = Field(128, ge=1)
    """Cases from which crops are drawn at a time. A smaller cohort, as the paper's 90, is drawn from as a whole."""
    visit: int = Field(16, ge=1)
    """Crops after which one case of a larger cohort leaves the window and another one enters it."""
    memory_mb: float = Field(0.0, ge=0)
    """Budget for decoded cases, in MiB; 0 means a quarter of the node's memory. Cases that fit are held once per node
    and shared by all runs there. Otherwise each run streams its own window within this budget. The budget times the
    number of runs on a node must then fit into the node's memory."""
    # 0 without a GPU: on a CPU the network takes far longer than assembling a batch.
    workers: int | None = Field(None, ge=0, le=1024)
    """Threads that assemble batches in advance. With 0, a batch is assembled when it is needed. Null means 2 with a GPU
    and 0 without."""
    decoders: int = Field(2, ge=1, le=1024)
    """Threads that decode cases in advance."""


class TrainConfig(Section):
    """Configuration of a training run.

    `loss` and `patch` have a field for each label of `labels`; those that are not given are filled from the label.
    """

    study_key: ClassVar[str] = "train"
    added: ClassVar[frozenset[str]] = frozenset({"labels", "init", "init_sha256"})

    labels: Labels = KIDNEY_TUMOR
    """The labels that the network distinguishes."""
    net: NetConfig = NetConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """The loss."""
    optim: OptimConfig = OptimConfig()
    """The optimiser."""
    patch: PatchConfig = PatchConfig()
    """Crops of the training cases."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentations beyond the paper's flips."""
    loader: LoaderConfig = LoaderConfig()
    """How cases become batches."""
    # Twice the stride of the final inference along z: half the sub-volumes, since this runs after each epoch.
    stitch: StitchConfig = StitchConfig(stride=(32, 75, 75))
    """Stitched inference on the validation cases after each epoch."""
    epochs: int = Field(9, ge=1)
    """Number of epochs (reconstruction: the paper gives only the milestones 3, 5 and 7)."""
    # The paper's number. It gives 56 000 crops an epoch, although the paper speaks of about 90 000 images.
    steps_per_epoch: int = Field(14000, ge=1)
    """Steps per epoch."""
    max_validation_cases: int = Field(0, ge=0)
    """Validation cases that each epoch measures, always the same ones; 0 means all."""
    seed: Seed = 0
    """Seed of the initial weights, of the order of the crops, and of the flips."""
    init: str | None = None
    """Model bundle with whose weights a run begins: a path or a URI, or `packaged` for the bundle of the package. With
    null, a run begins with random weights."""
    init_sha256: str | None = None
    """sha256 of the weights of `init`. The commands fill it in, so that a run does not go on with another bundle."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the convolutions. `auto` is bfloat16 where the hardware supports it, otherwise float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the network is compiled for training. `auto` compiles on a GPU only; a processor gains nothing."""
    checkpoint_every_s: float = Field(120.0, ge=0)
    """Seconds between checkpoints within an epoch; 0 means after each step. The end of each epoch also writes one."""

    @model_validator(mode="after")
    def _checksum_has_a_bundle(self) -> Self:
        if self.init_sha256 is not None and self.init is None:
            raise ValueError(f"init_sha256 {self.init_sha256}: needs init, the bundle of these weights; set both")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_all_labels(cls, values: Any) -> Any:
        labels = stated_labels(values)
        if labels is None:
            return values
        weights = {label.name: label.loss_weight for label in labels.labels}
        shares = {label.name + SHARE_SUFFIX: label.crop_share for label in labels.labels}
        return {
            **values,
            "loss": _filled("loss", LossConfig, values.get("loss", {}), weights),
            "patch": _filled("patch", PatchConfig, values.get("patch", {}), shares),
        }


def _filled(name: str, section: type[Section], given: Any, defaults: Mapping[str, float]) -> Any:
    """Return the values of a section with `defaults` where they are not given.

    Raises:
        ValueError: a key is neither a field of the section nor in `defaults`.
    """
    values = given.model_dump() if isinstance(given, Section) else given
    if not isinstance(values, Mapping):
        return values
    known = [*section.model_fields, *defaults]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key '{name}.{key}'; {nearest(str(key), known)}")
    return {**defaults, **values}
