"""The number of runs that a study plans."""

from renalnet.config import MAIN_NETWORK, NetName
from study.config.sections import StudyConfig
from study.config.space import domains, first_point
from study.search.sampler import num_points


def count_trials(config: StudyConfig) -> dict[NetName, int]:
    """Return the number of trials of each network, in the order in which networks are searched.

    It is the configured number, but at most the number of points that the sampler can draw.
    """
    search = config.search
    asked: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *search.baselines), search.baseline_trials)
    asked[MAIN_NETWORK] = search.num_trials
    return {network: int(min(number, _num_points(config, network))) for network, number in asked.items()}


def count_repeats(config: StudyConfig) -> dict[NetName, int]:
    """Return the number of repeats of each network's finalists, if each network has all its finalists.

    Finalists are repeated over seeds; those of 3D_FCN_PPM are repeated on folds as well.
    """
    final = config.final
    repeats: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *config.search.baselines), final.seeds - 1)
    repeats[MAIN_NETWORK] = num_finalists(config) * (final.seeds - 1 + final.folds)
    return repeats


def num_finalists(config: StudyConfig) -> int:
    """Return the number of configurations of 3D_FCN_PPM in the final stage."""
    return min(config.final.num_finalists, count_trials(config)[MAIN_NETWORK])


def _num_points(config: StudyConfig, network: NetName) -> float:
    """Return the number of points that can be drawn, and one for the point that a search starts with."""
    first = first_point(config.train, config.space, network)
    # Optuna's grid sampler does not count an enqueued point, even one that lies on the grid.
    return num_points(config.search, domains(config.space, network)) + (first is not None)
