"""Tumors: the frequency, size and CT numbers of each kind in the arterial phase."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from renalnet.data.phantom.random_fields import smooth_field
from renalnet.data.phantom.tissue import Enhancement
from renalnet.types import FloatArray, MaskArray, Triple

TumorKind: TypeAlias = Literal["hypodense", "necrotic", "isodense", "hyperenhancing", "fatty"]


@dataclass(frozen=True)
class TumorLook:
    """Frequency and CT numbers of one kind of tumor."""

    weight: float
    """Share of all tumors; the weights of `TUMOR_LOOKS` sum to 1."""
    mean_hu: tuple[float, float]
    """Range of a tumor's mean (that of the rim for necrotic ones, that of the vessels for fatty ones)."""
    texture_hu: tuple[float, float]
    """Range of the standard deviation of the tissue itself, without the scanner's noise."""


TUMOR_LOOKS: Final[dict[TumorKind, TumorLook]] = {
    "hypodense": TumorLook(0.47, (15, 85), (7, 14)),  # papillary and cystic ones; no cortex-medulla pattern
    "necrotic": TumorLook(0.20, (150, 230), (12, 24)),  # bright uneven rim, core of 15-45 HU
    "isodense": TumorLook(0.13, (145, 185), (18, 28)),  # coarse texture, thin dark capsule
    "hyperenhancing": TumorLook(0.12, (290, 360), (18, 34)),  # clear-cell: brighter than the cortex
    "fatty": TumorLook(0.08, (70, 125), (12, 24)),  # angiomyolipoma: vessels between patches of fat
}
"""The mixture of kinds. Most tumors (hypodense, necrotic, fatty) differ from the kidney, but no threshold finds all."""

NECROTIC_CORE_HU: Final = (15.0, 45.0)
CAPSULE_HU: Final = 85.0
FAT_PATCH_HU: Final = -80.0
FAT_SHARE: Final = 0.45


def draw_kind(quantile: float) -> TumorKind:
    """Return the kind at a quantile in [0, 1) of the mixture."""
    edges = np.cumsum([look.weight for look in TUMOR_LOOKS.values()])
    # The weights may add up to slightly less than 1 by rounding.
    return list(TUMOR_LOOKS)[min(int(np.searchsorted(edges, quantile, side="right")), len(edges) - 1)]


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
    look = TUMOR_LOOKS[kind]
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
        hu[patches < np.quantile(patches[inside], FAT_SHARE)] = FAT_PATCH_HU
    return hu


def _with_core(hu: FloatArray, depth_mm: FloatArray, rng: np.random.Generator, uneven: FloatArray) -> FloatArray:
    rim_mm = rng.uniform(0.18, 0.32) * float(depth_mm.max()) + 1.0
    core = depth_mm > rim_mm * (1 + 0.35 * uneven)
    hu[core] = rng.uniform(*NECROTIC_CORE_HU) + 5 * uneven[core]
    return hu
