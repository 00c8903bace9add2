"""Typed, frozen configuration of the method. An unknown key is an error that names the nearest known one.

Defaults are the paper's (Yang et al., ICPR 2018) or, where its text is silent, this project's reconstruction of it;
fields of the second kind say "reconstruction". Lengths are in mm, triples in (z, y, x) order.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from renalnet.errors import ConfigError, nearest
from renalnet.types import NetName, Triple

Voxels: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Lengths: TypeAlias = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Section(BaseModel):
    """Base of every configuration: frozen, no unknown keys, fields documented by the text below them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


class PhantomConfig(Section):
    """A synthetic cohort."""

    num_cases: int = Field(24, ge=1)
    """Patients to paint (ignored where label maps are given: then one patient a label map)."""
    seed: int = Field(0, ge=0)
    """Two cohorts of one seed are the same, voxel for voxel."""
    shape: Voxels = (96, 200, 200)
    """Voxels of a whole-abdomen CT (z, y, x)."""
    spacing_mm: Lengths = (3.0, 1.8, 1.8)
    """Voxel spacing of a whole-abdomen CT (z, y, x)."""
    healthy_share: float = Field(0.15, ge=0, le=1)
    """Share of patients whose kidneys carry no tumor."""
    tumor_volume_ml: tuple[float, float] = (2.0, 145.0)
    """Range of tumor volumes; the paper's cohort spans 2.11 to 144.82 ml."""
    noise_hu: float = Field(14.0, ge=0)
    """Standard deviation of the scanner's noise (11-17 HU measured in liver and spleen of real CTs)."""
    blur_mm: float = Field(0.8, ge=0)
    """Standard deviation of the scanner's point spread."""


class PrepareConfig(Section):
    """From scans to a store of regions of interest (ROIs)."""

    spacing_mm: Lengths | None = (1.0, 0.65, 0.65)
    """Grid of the ROIs; none keeps each scan's own spacing (no resampling)."""
    window_mm: float = Field(97.5, gt=0)
    """Side of the in-plane window; 150 pixels of 0.65 mm in the paper. It grows where a kidney does not fit."""
    margin_mm: float = Field(10.0, ge=0)
    """Kept around the kidney where the window grows, and above and below it along z."""
    localise: Literal["auto", "atlas", "cut"] = "auto"
    """`atlas` registers atlases; `cut` takes scans as ROIs already cut; `auto` decides by the field of view."""
    num_atlases: int = Field(8, ge=1)
    """Low-resolution atlas images; eight in the paper."""
    atlas_spacing_mm: float = Field(6.0, gt=0)
    """Isotropic grid of the atlases (reconstruction)."""
    validation_share: float = Field(0.2, ge=0, lt=1)
    """Share of the training patients that select the model; never test patients."""
    test_share: float = Field(0.25, ge=0, lt=1)
    """Share of all patients held out, where neither a test cohort nor a splits file is given (paper: 50 of 140)."""
    seed: int = Field(0, ge=0)
    """Decides the split and which patients become atlases."""
    hu_min: int = -200
    """Intensities are clipped from below here, then scaled to 0-1."""
    hu_max: int = 500
    """Intensities are clipped from above here."""
    slab_slices: int = Field(8, ge=1)
    """Slices in a row of the store, so that a crop reads only the rows it touches."""
    shard_mb: int = Field(64, ge=1)
    """Target size of a shard; a patient is never split over two."""

    @model_validator(mode="after")
    def _window_is_a_range(self) -> Self:
        if self.hu_min >= self.hu_max:
            raise ValueError(f"hu_min {self.hu_min} must lie below hu_max {self.hu_max}")
        return self


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


_YAML_ERRORS = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""What the safe loader raises: beyond its own, whatever its builders of dates, numbers and truths let through."""

AnySection = TypeVar("AnySection", bound=Section)


def parse(section: type[AnySection], values: Mapping[str, Any], where: str = "configuration") -> AnySection:
    """Validate `values` as a `section`.

    Raises:
        ConfigError: one line naming the first offending key, its value and the rule.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(section, error)}") from error


def _first_problem(section: type[Section], error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(location[-1], _keys_at(section, location[:-1]))}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message}" if key else message


def _keys_at(section: type[Section], location: Iterable[str]) -> list[str]:
    current = section
    for part in location:
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        current = annotation
    return list(current.model_fields)


def override(config: AnySection, assignments: Iterable[str], where: str = "--set") -> AnySection:
    """`config` with `key.sub=value` assignments applied; values are read as YAML.

    Raises:
        ConfigError: an assignment has no '=', or a key or value is invalid.
    """
    values = config.model_dump()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"{where} '{assignment}' must read key.sub=value")
        _assign(values, key.split("."), _parse_yaml(text, f"{where} '{assignment}'"))
    return parse(type(config), values, where)


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            values[part] = inner = {}
        values = inner
    values[path[-1]] = value


def merge(config: AnySection, changes: Mapping[str, Any], where: str) -> AnySection:
    """`config` with a nested mapping of changes laid over it, key by key. Raises ConfigError."""
    return parse(type(config), _merged(config.model_dump(), changes), where)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both_nested = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_nested else value
    return result


def read_file(path: str | Path) -> dict[str, Any]:
    """A YAML configuration file as a mapping. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name an existing YAML file") from error
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, got {type(values).__name__}")
    return values


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except _YAML_ERRORS as error:
        raise ConfigError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error


def fingerprint(config: Section) -> str:
    """Sixteen hexadecimal digits that two configurations share only if all their values are equal."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
