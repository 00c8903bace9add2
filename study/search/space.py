"""The search space: typed parameters that cannot form an invalid configuration, and the run each point stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from renalnet.config import TrainConfig
from renalnet.types import NetName
from study.config.sections import SpaceConfig

Point: TypeAlias = dict[str, Any]
"""Values by parameter name, as Optuna keeps them."""

KERNELS: Final = "ppm_kernels"
FIRST_STEP: Final = "first_step"
GAPS: Final = ("second_gap", "third_gap")
WIDTH: Final = "width"
_FIELDS: Final = {
    "tumor_weight": ("loss", "tumor"),
    "background_weight": ("loss", "background"),
    "base_rate": ("optim", "base_rate"),
    "rate_decay": ("optim", "rate_decay"),
    "weight_decay": ("optim", "weight_decay"),
    "batch_size": ("optim", "batch_size"),
    "tumor_share": ("patch", "tumor_share"),
}
"""Parameters that are a field of the run: its section and name."""


@dataclass(frozen=True)
class Real:
    """A real number from `low` to `high`."""

    low: float
    high: float
    log: bool = True
    """Searched on a log scale."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of some words or numbers that have no order."""

    options: tuple[str | int, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options


Domain: TypeAlias = Real | Whole | Choice


def kernel_name(kernels: tuple[int, ...]) -> str:
    """A set of kernels as a word, `2-4-8-16`; `none` for the network without the module."""
    return "-".join(map(str, kernels)) or "none"


def domains(space: SpaceConfig, network: NetName) -> dict[str, Domain]:
    """What each parameter of a network is drawn from; baselines have no pooling kernels to search.

    The learning rate's steps are the first one and the gaps between them, so that they always increase.
    """
    found: dict[str, Domain] = {
        "tumor_weight": Real(*space.tumor_weight),
        "background_weight": Real(*space.background_weight),
        FIRST_STEP: Whole(*space.first_step),
        **{gap: Whole(*space.step_gap) for gap in GAPS},
    }
    for name in ("base_rate", "rate_decay", "weight_decay", "tumor_share"):
        limits = getattr(space, name)
        if limits:
            low, high = limits
            found[name] = Real(low, high, log=name != "tumor_share")
    for name in ("batch_size", WIDTH):
        options = getattr(space, name)
        if options:
            found[name] = Choice(options)
    if network == "fcn_ppm":
        found[KERNELS] = Choice(tuple(kernel_name(kernels) for kernels in space.kernel_sets))
    return found


def first_point(train: TrainConfig, space: SpaceConfig, network: NetName) -> Point | None:
    """The values of `train`, by default the paper's own, with which each search starts; none where they lie outside.

    They do where the space has been narrowed since the study began, or was chosen without them.
    """
    values = train.model_dump()
    first, second, third = train.optim.milestones
    known = {
        FIRST_STEP: first,
        GAPS[0]: second - first,
        GAPS[1]: third - second,
        KERNELS: kernel_name(train.net.ppm_kernels),
        WIDTH: train.net.width,
        **{name: values[section][field] for name, (section, field) in _FIELDS.items()},
    }
    searched = domains(space, network)
    point = {name: known[name] for name in searched}
    return point if all(point[name] in domain for name, domain in searched.items()) else None


def configure(base: TrainConfig, network: NetName, widths: Mapping[int, int], point: Point) -> TrainConfig:
    """The training run that a point of the space stands for.

    Args:
        base: what all trials share.
        network: which network.
        widths: this network's own width for each of 3D_FCN_PPM's.
        point: values by parameter name.
    """
    changes: dict[str, dict[str, Any]] = {
        "net": {"name": network, "width": widths[int(point.get(WIDTH, base.net.width))]},
        "loss": {},
        "optim": {"milestones": _milestones(point)},
        "patch": {},
    }
    if KERNELS in point:
        changes["net"]["ppm_kernels"] = _kernels(point[KERNELS])
    for name in _FIELDS.keys() & point.keys():
        section, field = _FIELDS[name]
        changes[section][field] = point[name]
    sections = {name: getattr(base, name).model_copy(update=change) for name, change in changes.items()}
    return base.model_copy(update=sections)


def _kernels(word: str) -> tuple[int, ...]:
    return () if word == "none" else tuple(map(int, word.split("-")))


def _milestones(point: Point) -> tuple[int, int, int]:
    first = int(point[FIRST_STEP])
    second = first + int(point[GAPS[0]])
    return first, second, second + int(point[GAPS[1]])
