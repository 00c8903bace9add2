"""How many runs a study plans."""

from renalnet.config import MAIN_NETWORK, NetName
from study.config.sections import StudyConfig
from study.search.samplers import num_points
from study.config.space import domains, first_point


def count_trials(config: StudyConfig) -> dict[NetName, int]:
    """Trials of each network, in the order in which they run: those asked for, but no more than there are points."""
    search = config.search
    asked: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *search.baselines), search.baseline_trials)
    asked[MAIN_NETWORK] = search.num_trials
    return {network: int(min(number, _num_points(config, network))) for network, number in asked.items()}


def count_repeats(config: StudyConfig) -> dict[NetName, int]:
    """Runs of each network beside the search's, if every network has its finalists: over seeds, and ours on folds."""
    final = config.final
    repeats: dict[NetName, int] = dict.fromkeys((MAIN_NETWORK, *config.search.baselines), final.seeds - 1)
    repeats[MAIN_NETWORK] = num_finalists(config) * (final.seeds - 1 + final.folds)
    return repeats


def num_finalists(config: StudyConfig) -> int:
    """Configurations of 3D_FCN_PPM that compete in the final stage."""
    return min(config.final.num_finalists, count_trials(config)[MAIN_NETWORK])


def _num_points(config: StudyConfig, network: NetName) -> float:
    """Points that there are to draw, with the one that a search starts from."""
    first = first_point(config.train, config.space, network)
    return num_points(config.search, domains(config.space, network)) + (first is not None)
