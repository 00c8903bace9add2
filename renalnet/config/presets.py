"""Presets: named configurations of a training run and of the grid of its ROIs. A preset is a function.

`paper` uses a grid of 1.0×0.65×0.65 mm and sub-volumes of 64 slices. The smaller presets have a coarser grid. They keep
the physical size of the ROI and of the sub-volume (about 64 mm along z). Their pooling kernels are smaller, so that a
kernel covers about the same tissue.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from renalnet.config import (
    KIDNEY_TUMOR,
    AugmentConfig,
    Chance,
    LabelSet,
    LossConfig,
    NetConfig,
    OptimConfig,
    PatchConfig,
    PrepareConfig,
    StitchConfig,
    TrainConfig,
)
from renalnet.errors import ConfigError, nearest

Preset = TypeVar("Preset")

# One run each on the anatomy grid, 300 steps an epoch: tumor Dice 0.65, but 0.47 with a rate of 0.1 and a decay of
# 0.3 (results/LOG.md).
SHORT_RUN = OptimConfig(base_rate=0.2, rate_decay=0.2)
"""A run of a few thousand steps, instead of the paper's 126 000, needs a higher rate that falls less at a milestone."""


def paper(labels: LabelSet = KIDNEY_TUMOR) -> TrainConfig:
    """Return the paper's configuration: 9 epochs of 14 000 steps, each with four crops of 64×150×150 voxels."""
    return TrainConfig(labels=labels)


def anatomy(labels: LabelSet = KIDNEY_TUMOR) -> TrainConfig:
    """Return a configuration for cohorts painted on real label maps, on a grid of 2.0×1.95×1.95 mm.

    A run takes minutes on one processor core.
    """
    return TrainConfig(
        labels=labels,
        # A crop has 6×8×8 voxels at quarter resolution. Kernels at least as large as that all pool alike.
        net=NetConfig(width=16, ppm_kernels=(1, 2, 4, 8)),
        optim=SHORT_RUN,
        patch=PatchConfig(shape=(24, 32, 32)),
        stitch=StitchConfig(tile=(32, 50, 50), stride=(16, 25, 25)),
        steps_per_epoch=360,
    )


def quick(labels: LabelSet = KIDNEY_TUMOR) -> TrainConfig:
    """Return a configuration for synthetic phantoms, on a grid of 3.0×2.5×2.5 mm.

    A run takes less than a minute on one processor core.
    """
    return TrainConfig(
        labels=labels,
        net=NetConfig(width=16, ppm_kernels=(1, 2, 3, 6)),
        optim=SHORT_RUN,
        patch=PatchConfig(shape=(24, 32, 32)),
        # An ROI has 39×39 pixels, which the networks pad to 40, a multiple of 4.
        stitch=StitchConfig(tile=(24, 40, 40), stride=(12, 20, 20)),
        steps_per_epoch=70,
    )


def phantom(labels: LabelSet = KIDNEY_TUMOR) -> TrainConfig:
    """Return the configuration of the packaged bundle, on a grid of 2.0×1.95×1.95 mm.

    A run takes about an hour on two processor cores.
    """
    return TrainConfig(
        labels=labels,
        net=NetConfig(width=16, ppm_kernels=(1, 2, 4, 8)),
        loss=LossConfig(name="dice_ce", background=1.0, **{label.name: 1.0 for label in labels.labels}),
        optim=OptimConfig(name="adamw", base_rate=0.002, rate_decay=0.3, milestones=(4, 6, 8), batch_size=2),
        # Crops show the whole cross-section of an ROI, as the sub-volumes of inference do. They are not flipped: beside
        # an organ of the same intensity, spine and muscles show where the kidney ends.
        patch=PatchConfig(shape=(32, 48, 48), flip=False, kidney_share=0.4, tumor_share=0.4),
        # A scan of a patient may differ from all painted ones.
        augment=AugmentConfig(
            degrees=Chance(probability=0.3, range=(-12.0, 12.0)),
            zoom=Chance(probability=0.5, range=(0.85, 1.2)),
            blur_voxels=Chance(probability=0.2, range=(0.4, 1.0)),
            noise_hu=Chance(probability=0.2, range=(5.0, 30.0)),
            shift_hu=Chance(probability=0.4, range=(-30.0, 30.0)),
            contrast=Chance(probability=0.4, range=(0.75, 1.25)),
        ),
        stitch=StitchConfig(tile=(32, 50, 50), stride=(16, 25, 25)),
        epochs=9,
        steps_per_epoch=1000,
    )


def prepare_paper(labels: LabelSet = KIDNEY_TUMOR) -> PrepareConfig:
    """Return the paper's grid: 150×150 pixels of 0.65 mm, and slices of 1.0 mm (reconstruction).

    The paper does not state the distance of slices. Its numbers allow two estimates, if the window of 150×150 pixels
    has 97.5×97.5 mm and about 200 slices:

    - A mean kidney of 156.37 ml is 16.93 % of the volume, which is then 924 ml: 97 mm along z, 0.49 mm a slice.
    - A mean tumor of 33.58 ml is 2.43 % of the volume, which is then 1382 ml: 145 mm along z, 0.73 mm a slice.

    The two differ because a ratio of means is not the mean of ratios, and "about 200" is no exact number. Both are
    below 1.0 mm: the paper's sub-volumes of 64 slices spanned 31 to 47 mm, and those of this preset span 64 mm. The 249
    ROIs that were cut in this way from the label maps of KiTS19 and KiTS23 are 131 mm long on average, which makes
    0.66 mm of 200 slices.

    So 0.65 mm, the distance of the pixels, is the better reading of the paper. The default stays at 1.0 mm, because
    stores, bundles and results have it, and because no comparison of the two has been made yet: `python -m study.bench
    parts` makes it at equal physical context. `prepare --set spacing_mm=[0.65,0.65,0.65]` gives the other grid; with
    it, 64 mm are 98 slices of `patch.shape` and `stitch.tile`.
    """
    return PrepareConfig(labels=labels)


def prepare_anatomy(labels: LabelSet = KIDNEY_TUMOR) -> PrepareConfig:
    """Return a grid of 50×50 pixels of 1.95 mm and slices of 2 mm, with ROIs of the same size in mm."""
    # 1.95 mm, like 2.5 mm below, divides the window of 97.5 mm into whole pixels.
    return PrepareConfig(labels=labels, spacing_mm=(2.0, 1.95, 1.95))


def prepare_quick(labels: LabelSet = KIDNEY_TUMOR) -> PrepareConfig:
    """Return a grid of 39×39 pixels of 2.5 mm and slices of 3 mm, with ROIs of the same size in mm."""
    # The seed stays, so that stores of earlier versions can be added to.
    return PrepareConfig(labels=labels, spacing_mm=(3.0, 2.5, 2.5), seed=2)


def prepare_phantom(labels: LabelSet = KIDNEY_TUMOR) -> PrepareConfig:
    """Return the grid of `anatomy`. Most cases are for training, because the bundle is for scans of patients."""
    return PrepareConfig(
        labels=labels,
        spacing_mm=(2.0, 1.95, 1.95),
        validation_share=0.1,
        test_share=0.1,
        localiser_start="random",
        localiser_phantoms=240,
        localiser_steps=1600,
    )


DEFAULT_PRESET: Final = "quick"
"""The preset of a command that neither names one nor uses a store."""
TRAIN_PRESETS: dict[str, Callable[[LabelSet], TrainConfig]] = {
    "paper": paper,
    "anatomy": anatomy,
    "quick": quick,
    "phantom": phantom,
}
PREPARE_PRESETS: dict[str, Callable[[LabelSet], PrepareConfig]] = {
    "paper": prepare_paper,
    "anatomy": prepare_anatomy,
    "quick": prepare_quick,
    "phantom": prepare_phantom,
}


def train_preset(name: str, labels: LabelSet = KIDNEY_TUMOR) -> TrainConfig:
    """Return the preset of a training run. Raises ConfigError, which names the nearest preset, if there is none."""
    return _pick(TRAIN_PRESETS, name)(labels)


def prepare_preset(name: str, labels: LabelSet = KIDNEY_TUMOR) -> PrepareConfig:
    """Return the preset of a preparation. Raises ConfigError, which names the nearest preset, if there is none."""
    return _pick(PREPARE_PRESETS, name)(labels)


def chosen_preset(named: str | None, store: PrepareConfig | None = None, where: str = "the store") -> str:
    """Return the preset of a command: the named one, else that of the store, else `DEFAULT_PRESET`.

    Args:
        named: value of `--preset`; None where it is not given.
        store: configuration of the store that the command uses; None without one.
        where: name of the store in messages.

    Raises:
        ConfigError: there is no such preset, the store has the grid of another one, or no preset is named and the store
            has the grid of none.
    """
    if named is not None:
        prepare_preset(named)  # refuses an unknown name
    if store is None:
        return named or DEFAULT_PRESET
    alike = presets_of(store)
    spacing = f"{where} was prepared at {store.spacing_mm} mm"
    if named is None and not alike:
        raise ConfigError(f"{spacing}, the grid of no preset; name one with --preset: {', '.join(PREPARE_PRESETS)}")
    if named is not None and alike and named not in alike:
        raise ConfigError(
            f"{spacing}, the grid of preset '{alike[0]}', but '{named}' uses {prepare_preset(named).spacing_mm} mm; "
            "leave --preset out, or prepare another store"
        )
    return named or alike[0]


def presets_of(store: PrepareConfig) -> list[str]:
    """Return the presets with the voxel spacing of a store. One whose other values are equal, too, is first."""
    alike = [name for name in PREPARE_PRESETS if prepare_preset(name).spacing_mm == store.spacing_mm]
    return sorted(alike, key=lambda name: prepare_preset(name, store.labels) != store)


def _pick(presets: dict[str, Preset], name: str) -> Preset:
    if name not in presets:
        raise ConfigError(f"unknown preset '{name}'; {nearest(name, presets)}")
    return presets[name]
