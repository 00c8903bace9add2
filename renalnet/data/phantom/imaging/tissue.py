"""CT numbers of tissues: those of the narrow painter, in the arterial to portal phase, and the constants of both.

Means and standard deviations of the narrow painter follow measurements on four kidneys of two patients (kidneys 174-215
HU, liver and spleen 113-123 HU, fat -150 to -50 HU). Muscle, bone and gas have textbook values. The wide painter draws
every tissue by phase and patient (`phases`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

AIR_HU: Final = -1000.0
LUNG_HU: Final = -840.0
GAS_HU: Final = -960.0
DISC_HU: Final = 85.0
CANAL_HU: Final = 35.0

TumorKind: TypeAlias = Literal["hypodense", "necrotic", "isodense", "hyperenhancing", "fatty"]


@dataclass(frozen=True)
class TumorLook:
    """CT numbers of one kind of tumor."""

    mean_hu: tuple[float, float]
    """Range of a tumor's mean (that of the rim for necrotic ones, that of the vessels for fatty ones)."""
    texture_hu: tuple[float, float]
    """Range of the standard deviation of the tissue itself, without the scanner's noise."""


TUMOR_LOOKS: Final[dict[TumorKind, TumorLook]] = {
    "hypodense": TumorLook((15, 85), (7, 14)),  # papillary and cystic ones; no cortex-medulla pattern
    "necrotic": TumorLook((150, 230), (12, 24)),  # bright uneven rim, core of 15-45 HU
    "isodense": TumorLook((145, 185), (18, 28)),  # coarse texture, thin dark capsule
    "hyperenhancing": TumorLook((290, 360), (18, 34)),  # clear-cell: brighter than the cortex
    "fatty": TumorLook((70, 125), (12, 24)),  # angiomyolipoma: vessels between patches of fat
}
"""Looks of the narrow painter. Most tumors (hypodense, necrotic, fatty) differ from the kidney, but no threshold finds
all."""


@dataclass(frozen=True)
class Enhancement:
    """CT numbers in HU of one patient's tissues during the scan; the defaults are those of the narrow painter."""

    cortex: float
    medulla: float
    liver: float
    spleen: float
    aorta: float
    vein: float
    """Renal and portal veins."""
    pancreas: float
    cava: float
    """Lower vena cava, in which blood of the legs has little contrast agent in an early phase."""
    fat: float = -102.0
    muscle: float = 58.0
    bowel_wall: float = 85.0
    contents: float = 28.0
    """Contents of stomach and bowel; above 100 HU after an oral contrast agent."""
    urine: float = 12.0
    """Urine in the renal pelvis and the bladder; above 300 HU in the excretory phase."""
    cancellous: float = 210.0
    compact: float = 820.0
    tumor_looks: Mapping[TumorKind, TumorLook] = field(default_factory=lambda: TUMOR_LOOKS)
    """Looks of tumors in this phase."""


def draw_enhancement(rng: np.random.Generator) -> Enhancement:
    """Draw one patient's phase and dose for the narrow painter.

    The kidney gets a mean, and a contrast between its cortex and medulla.
    """
    mean = rng.uniform(176, 204)
    contrast = rng.uniform(70, 105)
    liver = rng.uniform(110, 124)
    spleen = rng.uniform(117, 127)
    aorta = rng.uniform(270, 350)
    vein = rng.uniform(140, 200)
    return Enhancement(
        # With these factors a kidney of 60 % cortex has the mean that was drawn.
        cortex=mean + 0.40 * contrast,
        medulla=max(mean - 0.60 * contrast, 136.0),
        liver=liver,
        spleen=spleen,
        aorta=aorta,
        vein=vein,
        pancreas=liver - 14,
        cava=vein,
    )
