"""The search space: the domain of each searched parameter, and the training run that a point stands for.

Every point of the space is a valid configuration: the pooling kernels are one choice among whole sets, and milestones
are a first epoch and gaps, so that they always increase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from renalnet.config import NETWORKS, NetName, TrainConfig
from renalnet.config.training import SHARE_SUFFIX
from study.config.sections import WEIGHT_SUFFIX, SpaceConfig

Point: TypeAlias = dict[str, Any]
"""A value for each searched parameter, by name, as Optuna stores it."""

KERNELS: Final = "ppm_kernels"
FIRST_STEP: Final = "first_step"
"""The first milestone."""
GAPS: Final = ("second_gap", "third_gap")
"""Epochs between one milestone and the next."""
WIDTH: Final = "width"
_OPTIM_FIELDS: Final = ("base_rate", "rate_decay", "weight_decay", "batch_size")
"""Parameters that are a field of `optim` of the same name."""


def field_of(parameter: str) -> tuple[str, str] | None:
    """Return section and field of the training configuration of a parameter that is one field; None for others."""
    if parameter in _OPTIM_FIELDS:
        return "optim", parameter
    if parameter.endswith(WEIGHT_SUFFIX):
        return "loss", parameter.removesuffix(WEIGHT_SUFFIX)
    if parameter.endswith(SHARE_SUFFIX):
        return "patch", parameter
    return None


@dataclass(frozen=True)
class Real:
    """The real numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = True
    """Whether the range is searched on a log scale."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Whole:
    """The whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """A set of words or numbers without an order."""

    options: tuple[str | int, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options


Domain: TypeAlias = Real | Whole | Choice


def kernel_name(kernels: tuple[int, ...]) -> str:
    """Return a set of kernels as one word, `2-4-8-16`; `none` for the network without pyramid pooling."""
    # A word, because Optuna stores only simple values as the options of a choice, no tuples.
    return "-".join(map(str, kernels)) or "none"


def domains(space: SpaceConfig, network: NetName) -> dict[str, Domain]:
    """Return the domain of each parameter that is searched for a network; baselines have no pooling kernels."""
    found: dict[str, Domain] = {
        "tumor_weight": Real(*space.tumor_weight),
        "background_weight": Real(*space.background_weight),
        FIRST_STEP: Whole(*space.first_step),
        **{gap: Whole(*space.step_gap) for gap in GAPS},
        **_optional_ranges(space),
        **{name: _real(name, limits) for name, limits in space.ranges_of_labels.items()},
        **_optional_choices(space),
    }
    if NETWORKS[network].uses_ppm_kernels:
        found[KERNELS] = Choice(tuple(kernel_name(kernels) for kernels in space.kernel_sets))
    return found


def _optional_ranges(space: SpaceConfig) -> dict[str, Domain]:
    names = ("base_rate", "rate_decay", "weight_decay", "tumor_share")
    ranges = {name: getattr(space, name) for name in names}
    return {name: _real(name, limits) for name, limits in ranges.items() if limits}


def _real(name: str, limits: tuple[float, float]) -> Real:
    # A share spans no orders of magnitude.
    return Real(limits[0], limits[1], log=not name.endswith(SHARE_SUFFIX))


def _optional_choices(space: SpaceConfig) -> dict[str, Domain]:
    choices = {name: getattr(space, name) for name in ("batch_size", WIDTH)}
    return {name: Choice(options) for name, options in choices.items() if options}


def first_point(train: TrainConfig, space: SpaceConfig, network: NetName) -> Point | None:
    """Return the values of `train`, by default the paper's, with which each search starts.

    The result is None if a value is outside of the space: the space was narrowed since the study began, or was chosen
    without that value.
    """
    known = _values_of(train)
    searched = domains(space, network)
    point = {name: known[name] for name in searched}
    return point if all(point[name] in domain for name, domain in searched.items()) else None


def _values_of(train: TrainConfig) -> Point:
    """Return the value in `train` of every parameter that can be searched."""
    # `StudyConfig` has refused any other number of milestones.
    first, second, third = train.optim.milestones
    weights = dict(zip(train.labels.class_names, train.loss.weights(train.labels), strict=True))
    shares = train.patch.shares(train.labels)
    return {
        FIRST_STEP: first,
        GAPS[0]: second - first,
        GAPS[1]: third - second,
        KERNELS: kernel_name(train.net.ppm_kernels),
        WIDTH: train.net.width,
        **{name: getattr(train.optim, name) for name in _OPTIM_FIELDS},
        **{name + WEIGHT_SUFFIX: weight for name, weight in weights.items()},
        **{label.name + SHARE_SUFFIX: shares[label.value] for label in train.labels.labels},
    }


def configure(base: TrainConfig, network: NetName, widths: Mapping[int, int], point: Point) -> TrainConfig:
    """Return the training run that a point of the space stands for.

    Args:
        base: values that all trials share.
        network: name of the trained network.
        widths: this network's own width for each width of 3D_FCN_PPM.
        point: a value for each searched parameter.
    """
    changes: dict[str, dict[str, Any]] = {
        "net": {"name": network, "width": widths[int(point.get(WIDTH, base.net.width))]},
        "loss": {},
        "optim": {"milestones": _milestones(point)},
        "patch": {},
    }
    if KERNELS in point:
        changes["net"]["ppm_kernels"] = _kernels(point[KERNELS])
    for name, value in point.items():
        if found := field_of(name):
            section, field = found
            changes[section][field] = value
    sections = {name: getattr(base, name).model_copy(update=change) for name, change in changes.items()}
    # A bundle has the weights of one network, so that baselines begin with random ones.
    init = {} if network == base.net.name else {"init": None, "init_sha256": None}
    # `model_copy` does not validate, and need not: every point of the space is valid.
    return base.model_copy(update={**sections, **init})


def _kernels(word: str) -> tuple[int, ...]:
    return () if word == "none" else tuple(map(int, word.split("-")))


def _milestones(point: Point) -> tuple[int, int, int]:
    first = int(point[FIRST_STEP])
    second = first + int(point[GAPS[0]])
    return first, second, second + int(point[GAPS[1]])
