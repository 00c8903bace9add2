"""The presets of a study. Each is a function; a variant of it changes fields."""

from collections.abc import Callable
from typing import Any

from renalnet.config import KIDNEY_TUMOR, LabelSet, PhantomConfig, presets
from renalnet.errors import ConfigError, nearest
from study.config.sections import FinalConfig, ResourceConfig, SearchConfig, SpaceConfig, StudyConfig

# Background up to 1: with the paper's 0.2, short runs call soft tissue tumor, and trials with 0.55 or more won
# every search (results/LOG.md).
SHORT_SEARCH: dict[str, Any] = {"tumor_weight": (1.0, 4.0), "background_weight": (0.2, 1.0), "first_step": (3, 5)}
"""Ranges near the paper's weights and milestones, because a few trials cannot search more."""

SHORT_SCHEDULE: dict[str, Any] = {"baseline_trials": 1, "num_startup_trials": 4}
"""One run of each baseline, and TPE that learns from few trials."""

ANY_VALIDATION: dict[str, Any] = {"min_validation_cases": 1}
"""A first try may have few cases. The study warns of a choice by chance."""


def paper(labels: LabelSet = KIDNEY_TUMOR) -> StudyConfig:
    """Return the study of the paper. Baselines get the same search and the same three seeds as 3D_FCN_PPM."""
    return StudyConfig(
        preset="paper",
        labels=labels,
        phantom=PhantomConfig(labels=labels),
        prepare=presets.prepare_paper(labels),
        train=presets.paper(labels),
        final=FinalConfig(seeds=3),
    )


def anatomy(labels: LabelSet = KIDNEY_TUMOR) -> StudyConfig:
    """Return a study of images that are painted on real label maps.

    It takes about 40 minutes on two processor cores with bfloat16, up to 110 minutes without. Baselines run once, with
    the paper's values and with widths of the cost of 3D_FCN_PPM. Finalists are not repeated, because a second seed
    would add five runs to the ten of the search.
    """
    train = presets.anatomy(labels)
    return StudyConfig(
        preset="anatomy",
        labels=labels,
        phantom=PhantomConfig(labels=labels),
        prepare=presets.prepare_anatomy(labels),
        train=train,
        # No empty set, unlike in the paper's space: single short runs cannot rank it (results/LOG.md).
        space=SpaceConfig(kernel_sets=((1, 2, 4, 8), (1, 2, 4), (2, 4, 8), (1, 4), (1, 2, 3, 6)), **SHORT_SEARCH),
        search=SearchConfig(num_trials=8, **SHORT_SCHEDULE),
        # A quarter of the sub-volume along z, as 16 of 64 slices by default, so that inner voxels get four votes or
        # more. Two votes, with ties decided by the summed probability, are no more than their mean.
        final=FinalConfig(stitch=train.stitch.model_copy(update={"stride": (8, 25, 25)}), num_finalists=3),
    )


def quick(labels: LabelSet = KIDNEY_TUMOR) -> StudyConfig:
    """Return a study of synthetic phantoms that takes minutes on two processor cores. Baselines are as in `anatomy`.

    Tumors have 10 ml or more, because a smaller one has only a few hundred voxels on this grid.
    """
    train = presets.quick(labels)
    return StudyConfig(
        preset="quick",
        labels=labels,
        # With 32 patients and smaller tumors, two studies of the same budget ended at a tumor Dice of 0.50 and 0.27
        # (results/LOG.md).
        phantom=PhantomConfig(labels=labels, num_cases=40, tumor_volume_ml=(10.0, 145.0)),
        prepare=presets.prepare_quick(labels),
        train=train,
        space=SpaceConfig(kernel_sets=((1, 2, 3, 6), (1, 2, 3), (2, 3, 6), (1, 3)), **SHORT_SEARCH),
        search=SearchConfig(num_trials=8, **SHORT_SCHEDULE, **ANY_VALIDATION),
        # A quarter along z, as in `anatomy`.
        final=FinalConfig(
            stitch=train.stitch.model_copy(update={"stride": (6, 20, 20)}), num_finalists=3, tuning_trials=16
        ),
    )


def phantom(labels: LabelSet = KIDNEY_TUMOR) -> StudyConfig:
    """Return the study that makes the packaged bundle: one trial, with the values of `train`, and the final stage."""
    train = presets.phantom(labels)
    return StudyConfig(
        preset="phantom",
        labels=labels,
        phantom=PhantomConfig(
            labels=labels,
            contrast="wide",
            num_cases=200,
            seed=40,
            shape=(125, 224, 224),
            spacing_mm=(2.0, 1.6, 1.6),
            healthy_share=0.3,
            tumor_volume_ml=(2.0, 145.0),
        ),
        prepare=presets.prepare_phantom(labels),
        train=train,
        # The first trial takes the values of `train`, which must be a point of the space.
        space=SpaceConfig(kernel_sets=(train.net.ppm_kernels,), tumor_weight=(0.5, 2.0), background_weight=(0.5, 1.0)),
        search=SearchConfig(num_trials=1, baselines=(), scheduler="none"),
        # The only trial would otherwise leave the second processor idle.
        resources=ResourceConfig(cpus_per_trial=2),
        # A quarter along z, as in `anatomy`.
        final=FinalConfig(stitch=train.stitch.model_copy(update={"stride": (8, 25, 25)}), num_finalists=1),
    )


STUDY_PRESETS: dict[str, Callable[[LabelSet], StudyConfig]] = {
    "quick": quick,
    "anatomy": anatomy,
    "paper": paper,
    "phantom": phantom,
}


def study_preset(name: str, labels: LabelSet = KIDNEY_TUMOR) -> StudyConfig:
    """Return a preset by its name. Raises ConfigError, which names the most similar preset."""
    if name not in STUDY_PRESETS:
        raise ConfigError(f"unknown preset '{name}'; {nearest(name, STUDY_PRESETS)}")
    return STUDY_PRESETS[name](labels)
