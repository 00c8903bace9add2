"""Named settings of a training run and of the grid it works on. A preset is a function; a variant changes fields.

`paper` works at 1.0×0.65×0.65 mm with sub-volumes of 64 slices. The smaller presets keep the physical size of the
window and of the sub-volume (about 64 mm along z) on a coarser grid, and scale the pooling kernels to the smaller map,
so that a kernel covers about the same tissue.
"""

from collections.abc import Callable
from typing import TypeVar

from renalnet.config import NetConfig, OptimConfig, PatchConfig, PrepareConfig, StitchConfig, TrainConfig
from renalnet.errors import ConfigError, nearest

Preset = TypeVar("Preset")

SHORT_RUN = OptimConfig(base_rate=0.2, rate_decay=0.2)
"""Some thousand steps instead of the paper's 126 000 need a higher rate that falls less at each step."""


def paper() -> TrainConfig:
    """The paper's numbers: 9 epochs of 14 000 steps of four crops of 64×150×150."""
    return TrainConfig()


def anatomy() -> TrainConfig:
    """For cohorts painted on real label maps, on a 2.0×1.95×1.95 mm grid; minutes a run on a processor core."""
    return TrainConfig(
        net=NetConfig(width=16, ppm_kernels=(1, 2, 4, 8)),
        optim=SHORT_RUN,
        patch=PatchConfig(shape=(24, 32, 32)),
        stitch=StitchConfig(tile=(32, 50, 50), stride=(16, 25, 25)),
        steps_per_epoch=360,
    )


def quick() -> TrainConfig:
    """For synthetic phantoms, on a 3.0×2.5×2.5 mm grid; under a minute a run on a processor core."""
    return TrainConfig(
        net=NetConfig(width=16, ppm_kernels=(1, 2, 3, 6)),
        optim=SHORT_RUN,
        patch=PatchConfig(shape=(24, 32, 32)),
        stitch=StitchConfig(tile=(24, 40, 40), stride=(12, 20, 20)),
        steps_per_epoch=70,
    )


def prepare_paper() -> PrepareConfig:
    """The paper's grid: 150×150 pixels of 0.65 mm."""
    return PrepareConfig()


def prepare_anatomy() -> PrepareConfig:
    """The same window on a grid three times coarser in-plane and twice along z: 50×50 pixels of 1.95 mm."""
    return PrepareConfig(spacing_mm=(2.0, 1.95, 1.95))


def prepare_quick() -> PrepareConfig:
    """The same window as 39×39 pixels of 2.5 mm, slices 3 mm apart.

    The seed splits the 40 patients of the quick study 26 : 7 : 7; small cohorts split unevenly with most seeds.
    """
    return PrepareConfig(spacing_mm=(3.0, 2.5, 2.5), seed=2)


TRAIN_PRESETS: dict[str, Callable[[], TrainConfig]] = {"paper": paper, "anatomy": anatomy, "quick": quick}
PREPARE_PRESETS: dict[str, Callable[[], PrepareConfig]] = {
    "paper": prepare_paper,
    "anatomy": prepare_anatomy,
    "quick": prepare_quick,
}


def train_preset(name: str) -> TrainConfig:
    """A training run by name. Raises ConfigError naming the nearest known preset."""
    return _pick(TRAIN_PRESETS, name)()


def prepare_preset(name: str) -> PrepareConfig:
    """A preparation by name. Raises ConfigError naming the nearest known preset."""
    return _pick(PREPARE_PRESETS, name)()


def _pick(presets: dict[str, Preset], name: str) -> Preset:
    if name not in presets:
        raise ConfigError(f"unknown preset '{name}'; {nearest(name, presets)}")
    return presets[name]
