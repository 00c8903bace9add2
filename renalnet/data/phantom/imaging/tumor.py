"""Tumors: the frequency, size and CT numbers of each kind."""

from typing import Final

import numpy as np

from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.data.phantom.imaging.tissue import Enhancement, TumorKind
from renalnet.types import FloatArray, MaskArray, Triple

TUMOR_SHARES: Final[dict[TumorKind, float]] = {
    "hypodense": 0.47,
    "necrotic": 0.20,
    "isodense": 0.13,
    "hyperenhancing": 0.12,
    "fatty": 0.08,
}
"""Share of each kind. The shares sum to 1."""
NECROTIC_CORE_HU: Final = (15.0, 45.0)
CAPSULE_HU: Final = 85.0
FAT_PATCH_ABOVE_HU: Final = 22.0
"""Difference of the patches of an angiomyolipoma from the patient's fat."""
FAT_SHARE: Final = 0.45


def draw_kind(quantile: float) -> TumorKind:
    """Return the kind at a quantile in [0, 1) of the mixture."""
    edges = np.cumsum(list(TUMOR_SHARES.values()))
    # The shares may add up to slightly less than 1 by rounding.
    return list(TUMOR_SHARES)[min(int(np.searchsorted(edges, quantile, side="right")), len(edges) - 1)]


def draw_volume_ml(quantile: float, range_ml: tuple[float, float]) -> float:
    """Return the tumor volume at a quantile in [0, 1) of a log-uniform distribution over a range.

    Over the default 2 to 145 ml the median is 17 ml and the mean 33.4 ml (paper's cohort: mean 33.58 ml).
    """
    low, high = range_ml
    return float(low * (high / low) ** quantile)


def tumor_hu(
    kind: TumorKind,
    depth_mm: FloatArray,
    spacing_mm: Triple,
    enhancement: Enhancement,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the CT numbers of one tumor in its box; `depth_mm` is the depth below its surface, 0 outside."""
    look = enhancement.tumor_looks[kind]
    shape = (depth_mm.shape[0], depth_mm.shape[1], depth_mm.shape[2])
    mean = rng.uniform(*look.mean_hu)
    spread = rng.uniform(*look.texture_hu)
    fine = smooth_field(rng, shape, spacing_mm, float(rng.uniform(4.5, 8.0)))
    hu = np.asarray(mean + spread * fine, dtype=np.float32)
    inside: MaskArray = depth_mm > 0
    if kind == "necrotic":
        return _with_core(hu, depth_mm, rng, smooth_field(rng, shape, spacing_mm, 14.0))
    if kind == "isodense":
        hu[depth_mm < rng.uniform(2.0, 3.0)] = min(CAPSULE_HU, enhancement.medulla - 35)
    if kind == "fatty":
        patches = smooth_field(rng, shape, spacing_mm, 9.0)
        # The quantile of the tumor itself, so that its share of fat does not depend on the pattern.
        hu[patches < np.quantile(patches[inside], FAT_SHARE)] = enhancement.fat + FAT_PATCH_ABOVE_HU
    return hu


def _with_core(hu: FloatArray, depth_mm: FloatArray, rng: np.random.Generator, uneven: FloatArray) -> FloatArray:
    rim_mm = rng.uniform(0.18, 0.32) * float(depth_mm.max()) + 1.0
    core = depth_mm > rim_mm * (1 + 0.35 * uneven)
    hu[core] = rng.uniform(*NECROTIC_CORE_HU) + 5 * uneven[core]
    return hu
