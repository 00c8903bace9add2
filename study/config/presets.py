"""Named studies. Each is a function; a variant changes fields."""

from collections.abc import Callable
from typing import Any

from renalnet.config import PhantomConfig, presets
from renalnet.errors import ConfigError, nearest
from study.config.sections import FinalConfig, SearchConfig, SpaceConfig, StudyConfig

SHORT_SEARCH: dict[str, Any] = {"tumor_weight": (1.0, 4.0), "background_weight": (0.2, 1.0), "first_step": (3, 5)}
"""A handful of trials can search only the neighbourhood of the paper's weights and steps."""

SHORT_SCHEDULE: dict[str, Any] = {"baseline_trials": 1, "num_startup_trials": 4}


def paper() -> StudyConfig:
    """The paper's numbers; baselines get the same search as the network itself, and three seeds as its finalists do."""
    return StudyConfig(
        preset="paper", prepare=presets.prepare_paper(), train=presets.paper(), final=FinalConfig(seeds=3)
    )


def anatomy() -> StudyConfig:
    """For images painted on real label maps: about 40 minutes on two processor cores with bfloat16, up to 110 without.

    Baselines run once, at the paper's values, with widths scaled to the cost of 3D_FCN_PPM. Finalists are not repeated:
    a second seed would add five runs to the search's ten.
    """
    train = presets.anatomy()
    return StudyConfig(
        preset="anatomy",
        prepare=presets.prepare_anatomy(),
        train=train,
        space=SpaceConfig(kernel_sets=((1, 2, 4, 8), (1, 2, 4), (2, 4, 8), (1, 4), (1, 2, 3, 6)), **SHORT_SEARCH),
        search=SearchConfig(num_trials=8, **SHORT_SCHEDULE),
        final=FinalConfig(stitch=train.stitch.model_copy(update={"stride": (8, 25, 25)}), num_finalists=3),
    )


def quick() -> StudyConfig:
    """For the embedded synthetic phantoms: minutes on two processor cores. Baselines as in `anatomy`.

    Tumors are of 10 ml and more: a smaller one is a few hundred voxels of this grid.
    """
    train = presets.quick()
    return StudyConfig(
        preset="quick",
        phantom=PhantomConfig(num_cases=40, tumor_volume_ml=(10.0, 145.0)),
        prepare=presets.prepare_quick(),
        train=train,
        space=SpaceConfig(kernel_sets=((1, 2, 3, 6), (1, 2, 3), (2, 3, 6), (1, 3)), **SHORT_SEARCH),
        search=SearchConfig(num_trials=8, **SHORT_SCHEDULE),
        final=FinalConfig(
            stitch=train.stitch.model_copy(update={"stride": (6, 20, 20)}), num_finalists=3, tuning_trials=16
        ),
    )


STUDY_PRESETS: dict[str, Callable[[], StudyConfig]] = {"quick": quick, "anatomy": anatomy, "paper": paper}


def study_preset(name: str) -> StudyConfig:
    """A study by name. Raises ConfigError naming the nearest known preset."""
    if name not in STUDY_PRESETS:
        raise ConfigError(f"unknown preset '{name}'; {nearest(name, STUDY_PRESETS)}")
    return STUDY_PRESETS[name]()
