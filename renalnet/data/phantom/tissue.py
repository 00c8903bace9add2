"""CT numbers of tissues in the arterial to portal phase, and their variation between patients.

Means and standard deviations follow measurements on real contrast CTs (kidneys 174-215 HU, liver and spleen 113-123
HU, fat -150 to -50 HU). Muscle, bone and gas have textbook values.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

AIR_HU: Final = -1000.0
LUNG_HU: Final = -840.0
FAT_HU: Final = -102.0
MUSCLE_HU: Final = 58.0
BOWEL_WALL_HU: Final = 85.0
CONTENTS_HU: Final = 28.0
GAS_HU: Final = -960.0
DISC_HU: Final = 85.0
CANCELLOUS_HU: Final = 210.0
COMPACT_HU: Final = 820.0
CANAL_HU: Final = 35.0
URINE_HU: Final = 12.0


@dataclass(frozen=True)
class Enhancement:
    """CT numbers in HU of one patient's organs after they took up the contrast agent."""

    cortex: float
    medulla: float
    liver: float
    spleen: float
    aorta: float
    vein: float


def draw_enhancement(rng: np.random.Generator) -> Enhancement:
    """Draw one patient's phase and dose: a mean of the kidney and a contrast between its cortex and medulla."""
    mean = rng.uniform(176, 204)
    contrast = rng.uniform(70, 105)
    return Enhancement(
        # With these factors a kidney of 60 % cortex has the mean that was drawn.
        cortex=mean + 0.40 * contrast,
        medulla=max(mean - 0.60 * contrast, 136.0),
        liver=rng.uniform(110, 124),
        spleen=rng.uniform(117, 127),
        aorta=rng.uniform(270, 350),
        vein=rng.uniform(140, 200),
    )
