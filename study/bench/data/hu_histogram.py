"""CT numbers of painted kidneys and tumors, and the published ones of real patients.

Published are the statistics over the kidneys and tumors of KiTS19's training cases, as 3D U-Net benchmarks normalise
by: mean 101, standard deviation 77, 0.5 and 99.5 percentile -79 and 304 HU.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.config import PhantomConfig
from renalnet.data.images.resampling import covering_grid, regrid_label
from renalnet.data.images.volume import read_volume
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_labels
from renalnet.runtime.machine import num_cores

PUBLISHED: Final = {"mean": 101.0, "standard deviation": 77.0, "0.5 percentile": -79.0, "99.5 percentile": 304.0}
"""Published statistics in HU."""
SEED: Final = 3
"""Seed of the painted cases."""
FIRST_HU: Final = -1024
"""CT number of the first entry of a histogram."""
_NUM_VALUES: Final = 4096
_SPACING_MM: Final = (1.5, 1.3, 1.3)
"""Spacing to which label maps are resampled first, twice their own, since painting takes long."""

Contrast: TypeAlias = Literal["wide", "narrow"]
Histogram: TypeAlias = NDArray[np.int64]
"""Number of voxels of each CT number from `FIRST_HU` on, (4096,)."""


def histogram(contrast: Contrast, num_cases: int, label_maps: str | None) -> Histogram:
    """Return the voxels of all painted kidneys and tumors by their CT number."""
    config = PhantomConfig(contrast=contrast, seed=SEED, healthy_share=0.0)
    files = sorted(Path(label_maps).glob("*.nii.gz"))[:num_cases] if label_maps else [None] * num_cases
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_cores(), mp_context=context) as pool:
        counts = list(pool.map(partial(_histogram_of, config), range(len(files)), files))
    return np.asarray(np.sum(counts, axis=0), dtype=np.int64)


def statistics(counts: Histogram) -> dict[str, float]:
    """Return the statistics of `PUBLISHED` of a histogram with at least one voxel, in HU."""
    values = FIRST_HU + np.arange(_NUM_VALUES)
    mean = float(np.average(values, weights=counts))
    deviation = float(np.average((values - mean) ** 2, weights=counts) ** 0.5)
    shares = np.cumsum(counts) / counts.sum()
    low, high = (float(values[np.searchsorted(shares, share)]) for share in (0.005, 0.995))
    return dict(zip(PUBLISHED, (mean, deviation, low, high), strict=True))


def _histogram_of(config: PhantomConfig, index: int, file: Path | None) -> Histogram:
    case = _painted(config, index, file)
    inside = case.image.array[config.labels.body_mask(case.label.array)].astype(np.int64)
    return np.bincount(inside - FIRST_HU, minlength=_NUM_VALUES)


def _painted(config: PhantomConfig, index: int, file: Path | None) -> PaintedCase:
    if file is None:
        return paint_abdomen(config, index)
    label = read_volume(file)
    return paint_labels(regrid_label(label, covering_grid(label.grid, _SPACING_MM)), config, index)
