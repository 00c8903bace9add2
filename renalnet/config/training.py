"""One training run."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renalnet.config.inference import StitchConfig
from renalnet.config.network import LossConfig, NetConfig
from renalnet.config.section import Section, Voxels


class OptimConfig(Section):
    """SGD with a multistep schedule (paper, III.B.3)."""

    base_rate: float = Field(0.001, gt=0)
    """Learning rate of the first epoch."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum."""
    weight_decay: float = Field(1e-5, ge=0)
    """L2 regularisation."""
    milestones: tuple[int, ...] = (3, 5, 7)
    """Epochs after which the rate is multiplied by `rate_decay`."""
    rate_decay: float = Field(0.1, gt=0, lt=1)
    """Factor of each step (reconstruction: the paper names only the steps)."""
    batch_size: int = Field(4, ge=1)
    """Crops a step."""
    micro_batch: int = Field(0, ge=0)
    """Crops that go through the network at once, whose gradients are added up to the batch's; 0 means the whole batch.
    Where memory runs out the run halves it by itself. BatchNorm sees so many crops at a time."""
    clip_norm: float = Field(10.0, gt=0)
    """Gradients longer than this are shortened to it, so that one odd crop cannot end a run (reconstruction)."""

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)) or any(m < 1 for m in self.milestones):
            raise ValueError(f"milestones {self.milestones} must be increasing epochs from 1")
        return self


class PatchConfig(Section):
    """Random crops and flips, weighted towards kidney and tumor (paper, III.B.2)."""

    shape: Voxels = (64, 150, 150)
    """Voxels of a crop (z, y, x)."""
    tumor_share: float = Field(0.5, ge=0, le=1)
    """Share of crops centred near a tumor voxel (reconstruction)."""
    kidney_share: float = Field(0.35, ge=0, le=1)
    """Share of crops centred near a kidney voxel (reconstruction); the rest fall anywhere."""
    flip: bool = True
    """Flip each axis with probability one half."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.tumor_share + self.kidney_share > 1:
            raise ValueError(f"tumor_share {self.tumor_share} + kidney_share {self.kidney_share} must not exceed 1")
        return self


class Chance(Section):
    """An option of augmentation: how often, and between which values."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the crops that it is applied to."""
    range: tuple[float, float]
    """The value is drawn uniformly from here."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.range[0] > self.range[1]:
            raise ValueError(f"range {self.range} must go from low to high")
        return self


class AugmentConfig(Section):
    """What the paper does not do: all off unless given a probability; applied to crops, on the GPU if there is one."""

    degrees: Chance = Chance(range=(-10.0, 10.0))
    """Rotation in-plane."""
    zoom: Chance = Chance(range=(0.9, 1.1))
    """Scaling of all axes; above 1 what is shown grows."""
    blur_voxels: Chance = Chance(range=(0.5, 1.0))
    """Gaussian blur, its standard deviation."""
    noise_hu: Chance = Chance(range=(5.0, 20.0))
    """White Gaussian noise, its standard deviation."""
    shift_hu: Chance = Chance(range=(-30.0, 30.0))
    """Added to all intensities."""
    contrast: Chance = Chance(range=(0.85, 1.15))
    """Factor about the middle of the intensity range."""
    gamma: Chance = Chance(range=(0.8, 1.25))
    """Power of the intensities, scaled 0-1."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("zoom", "blur_voxels", "contrast", "gamma"):
            if getattr(self, name).range[0] <= 0:
                raise ValueError(f"{name}.range {getattr(self, name).range} must lie above 0")
        if self.noise_hu.range[0] < 0:
            raise ValueError(f"noise_hu.range {self.noise_hu.range} must not be negative")
        return self


class LoaderConfig(Section):
    """How patients become batches. Only `window` and `visit` change what is drawn."""

    window: int = Field(128, ge=1)
    """Patients that crops are drawn from at a time; a cohort of no more is drawn from as a whole (the paper's 90)."""
    visit: int = Field(16, ge=1)
    """In a larger cohort, one patient leaves the window and another enters every so many crops."""
    memory_mb: float = Field(0.0, ge=0)
    """Budget for decoded patients. What fits is held once a node and shared by all runs there. Else each run streams a
    window of its own, and the budget is of each: it times the runs on a node must fit into the node's memory.
    0 means a quarter of the node's memory."""
    workers: int | None = Field(None, ge=0)
    """Threads that assemble batches ahead; 0: they are assembled when asked for; none: 2 beside a GPU, else 0."""
    decoders: int = Field(2, ge=1)
    """Threads that decode patients ahead."""


class TrainConfig(Section):
    """One training run."""

    net: NetConfig = NetConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """The loss."""
    optim: OptimConfig = OptimConfig()
    """The optimiser."""
    patch: PatchConfig = PatchConfig()
    """What the network sees while training."""
    augment: AugmentConfig = AugmentConfig()
    """Changes of the crops beyond the paper's flips."""
    loader: LoaderConfig = LoaderConfig()
    """How patients become batches."""
    stitch: StitchConfig = StitchConfig(stride=(32, 75, 75))
    """Inference inside the training loop, on validation patients."""
    epochs: int = Field(9, ge=1)
    """Epochs (reconstruction: the paper names the steps 3, 5, 7 only)."""
    steps_per_epoch: int = Field(14000, ge=1)
    """Optimiser steps an epoch."""
    max_validation_cases: int = Field(0, ge=0)
    """Validation patients looked at each epoch, the same ones always; 0 means all."""
    seed: int = Field(0, ge=0)
    """Initial weights, order of crops and flips follow from it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` takes bfloat16 where the device computes in it, float32 elsewhere."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the network is compiled for training; `auto`: on a GPU only, a processor gains nothing."""
    checkpoint_every_s: float = Field(120.0, ge=0)
    """Seconds between checkpoints within an epoch; 0: after each step. Each epoch's end is kept too."""
