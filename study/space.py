"""The search space: typed parameters that cannot form an invalid configuration, and the run each point stands for."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from renalnet.config import TrainConfig
from renalnet.types import NetName
from study.config import SpaceConfig

Point: TypeAlias = dict[str, Any]
"""Values by parameter name, as Optuna keeps them."""

KERNELS: Final = "ppm_kernels"
TUMOR: Final = "tumor_weight"
BACKGROUND: Final = "background_weight"
FIRST_STEP: Final = "first_step"
GAPS: Final = ("second_gap", "third_gap")


def kernel_name(kernels: tuple[int, ...]) -> str:
    """A set of kernels as a word, `2-4-8-16`; `none` for the network without the module."""
    return "-".join(map(str, kernels)) or "none"


def suggest(trial: Any, space: SpaceConfig, network: NetName) -> Point:
    """Ask an Optuna trial for every parameter of a network; baselines have no pooling kernels to search."""
    suggestors: dict[str, Callable[[], Any]] = {
        TUMOR: lambda: trial.suggest_float(TUMOR, *space.tumor_weight, log=True),
        BACKGROUND: lambda: trial.suggest_float(BACKGROUND, *space.background_weight, log=True),
        FIRST_STEP: lambda: trial.suggest_int(FIRST_STEP, *space.first_step),
        **{gap: partial(trial.suggest_int, gap, *space.step_gap) for gap in GAPS},
    }
    if network == "fcn_ppm":
        names = [kernel_name(kernels) for kernels in space.kernel_sets]
        suggestors[KERNELS] = lambda: trial.suggest_categorical(KERNELS, names)
    return {name: ask() for name, ask in suggestors.items()}


def paper_point(train: TrainConfig, network: NetName) -> Point:
    """The paper's own values of the searched parameters."""
    first, second, third = train.optim.milestones
    point = {
        TUMOR: train.loss.tumor,
        BACKGROUND: train.loss.background,
        FIRST_STEP: first,
        GAPS[0]: second - first,
        GAPS[1]: third - second,
    }
    return {**point, KERNELS: kernel_name(train.net.ppm_kernels)} if network == "fcn_ppm" else point


def configure(base: TrainConfig, space: SpaceConfig, network: NetName, width: int, point: Point) -> TrainConfig:
    """The training run that a point of the space stands for."""
    first = int(point[FIRST_STEP])
    second = first + int(point[GAPS[0]])
    kernels = {kernel_name(kernels): kernels for kernels in space.kernel_sets}
    net = base.net.model_copy(
        update={
            "name": network,
            "width": width,
            "ppm_kernels": kernels[point[KERNELS]] if KERNELS in point else base.net.ppm_kernels,
        }
    )
    weights = {"tumor": float(point[TUMOR]), "background": float(point[BACKGROUND])}
    milestones = (first, second, second + int(point[GAPS[1]]))
    return base.model_copy(
        update={
            "net": net,
            "loss": base.loss.model_copy(update=weights),
            "optim": base.optim.model_copy(update={"milestones": milestones}),
        }
    )
