"""The number of runs that a study plans."""

from renalnet.config import MAIN_NETWORK, NetName
from study.config.sections import StudyConfig
from study.config.space import domains, first_point
from study.records.trials import is_paper_point
from study.search.sampler import num_points


def count_trials(config: StudyConfig) -> dict[NetName, int]:
    """Return the number of trials of each network, in the order in which networks are searched.

    It is the configured number, but at most the number of points that the sampler can draw.
    """
    search = config.search
    asked: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *search.baselines), search.baseline_trials)
    asked[MAIN_NETWORK] = search.num_trials
    return {network: int(min(number, _num_points(config, network))) for network, number in asked.items()}


def count_repeats(config: StudyConfig, num_ours: int | None = None) -> dict[NetName, int]:
    """Return the number of repeats of each network's finalists, if each network has all its finalists.

    Finalists are repeated over seeds; those of 3D_FCN_PPM are repeated on folds as well.

    Args:
        config: the whole study.
        num_ours: number of finalists of 3D_FCN_PPM; None for the largest possible one.
    """
    final = config.final
    repeats: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *config.search.baselines), final.seeds - 1)
    ours = num_finalists(config) if num_ours is None else num_ours
    repeats[MAIN_NETWORK] = ours * (final.seeds - 1 + final.folds)
    return repeats


def num_finalists(config: StudyConfig) -> int:
    """Return the largest number of configurations of 3D_FCN_PPM in the final stage.

    The paper's point is one more, unless it is among the best.
    """
    return min(config.final.num_finalists + has_reference(config), count_trials(config)[MAIN_NETWORK])


def has_reference(config: StudyConfig) -> bool:
    """Whether the first trial of 3D_FCN_PPM has the paper's values (`study.records.trials.is_reference`)."""
    starts = first_point(config.train, config.space, MAIN_NETWORK) is not None
    return starts and is_paper_point(0, config.train.model_dump(mode="json"))


def _num_points(config: StudyConfig, network: NetName) -> float:
    """Return the number of points that can be drawn, and one for the point that a search starts with."""
    first = first_point(config.train, config.space, network)
    # Optuna's grid sampler does not count an enqueued point, even one that lies on the grid.
    return num_points(config.search, domains(config.space, network)) + (first is not None)
