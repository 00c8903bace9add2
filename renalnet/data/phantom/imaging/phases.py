"""CT numbers of the wide painter: drawn by contrast phase, dose and patient.

Each tissue has an unenhanced CT number and an enhancement, which depends on the phase. A factor for dose and tube
voltage multiplies all enhancements of a patient. The ranges follow published measurements:

- Unenhanced parenchyma has 30 HU on average (Euler et al., Realistic kidney tissue surrogates for multienergy CT).
- Small hypervascular carcinomas have 34, 173, 149 and 98 HU unenhanced and in the corticomedullary, nephrographic and
  excretory phase, with standard deviations of 34 to 45 HU after contrast (doi 10.5301/uj.5000256). Papillary carcinomas
  enhance least (Young et al., Radiology 267(2), 2013).
- The aorta has 464 HU at its peak, renal veins 277 HU (CT angiography, doi 10.1371/journal.pone.0091774).
- The cortex is bright before the medulla, which is slightly above it later (Young et al., Investigative Radiology
  16(1), 1981).

The shares of phases and kinds of tumors are chosen so that kidneys and tumors of a painted cohort have the published
statistics of KiTS19's training cases: mean 101 HU, standard deviation 77 HU, 0.5 to 99.5 percentile -79 to 304 HU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from renalnet.config import ContrastPhase
from renalnet.data.phantom.imaging.tissue import Enhancement, TumorKind, TumorLook

Range = tuple[float, float]


@dataclass(frozen=True)
class Phase:
    """Enhancement in HU of tissues in one contrast phase, as ranges over patients of the same dose."""

    share: float
    """Share of patients; the shares of `PHASES` sum to 1."""
    cortex: Range
    medulla: Range
    """Share of the cortex' enhancement."""
    liver: Range
    spleen: Range
    aorta: Range
    vein: Range
    cava: Range
    muscle: Range
    bowel_wall: Range
    urine: Range
    tumors: dict[TumorKind, Range]
    """Enhancement of the kinds that have a vascular pattern of their own; `isodense` ones follow the kidney."""


PHASES: Final[dict[ContrastPhase, Phase]] = {
    "unenhanced": Phase(
        share=0.18,
        cortex=(0, 0),
        medulla=(0, 0),
        liver=(0, 0),
        spleen=(0, 0),
        aorta=(0, 0),
        vein=(0, 0),
        cava=(0, 0),
        muscle=(0, 0),
        bowel_wall=(0, 0),
        urine=(0, 0),
        tumors={"hypodense": (-12, 14), "necrotic": (-5, 12), "hyperenhancing": (0, 20), "fatty": (-5, 20)},
    ),
    "corticomedullary": Phase(
        share=0.36,
        cortex=(95, 190),
        medulla=(0.1, 0.6),
        liver=(2, 35),
        spleen=(40, 110),
        aorta=(160, 330),
        vein=(40, 160),
        cava=(0, 70),
        muscle=(2, 12),
        bowel_wall=(20, 60),
        urine=(0, 6),
        tumors={"hypodense": (0, 40), "necrotic": (60, 150), "hyperenhancing": (95, 185), "fatty": (30, 90)},
    ),
    "nephrographic": Phase(
        share=0.32,
        cortex=(85, 165),
        medulla=(0.8, 1.1),
        liver=(40, 75),
        spleen=(55, 90),
        aorta=(80, 140),
        vein=(80, 150),
        cava=(70, 130),
        muscle=(6, 18),
        bowel_wall=(30, 70),
        urine=(0, 25),
        tumors={"hypodense": (5, 50), "necrotic": (50, 115), "hyperenhancing": (70, 130), "fatty": (25, 75)},
    ),
    "excretory": Phase(
        share=0.14,
        cortex=(50, 110),
        medulla=(0.9, 1.3),
        liver=(25, 50),
        spleen=(30, 60),
        aorta=(40, 80),
        vein=(40, 80),
        cava=(40, 80),
        muscle=(6, 18),
        bowel_wall=(15, 40),
        urine=(200, 1300),
        tumors={"hypodense": (5, 45), "necrotic": (35, 70), "hyperenhancing": (40, 85), "fatty": (20, 55)},
    ),
}
DOSE: Final = (0.6, 1.6)
"""Range of the factor of dose, tube voltage and output of the heart: at 80 kV, iodine is about 1.7 times as bright as
at 120 kV."""
STEATOSIS_SHARE: Final = 0.2
ORAL_CONTRAST_SHARE: Final = 0.25
_TEXTURE_HU: Final[dict[TumorKind, Range]] = {
    "hypodense": (4, 18),
    "necrotic": (10, 26),
    "isodense": (10, 28),
    "hyperenhancing": (10, 34),
    "fatty": (10, 26),
}


def draw_phase(rng: np.random.Generator, allowed: Sequence[ContrastPhase]) -> ContrastPhase:
    """Draw a phase by its share among those that are allowed."""
    shares = np.array([PHASES[name].share for name in allowed])
    return allowed[int(rng.choice(len(allowed), p=shares / shares.sum()))]


def draw_wide_enhancement(rng: np.random.Generator, name: ContrastPhase) -> Enhancement:
    """Draw the CT numbers of one patient's tissues in a phase."""
    phase = PHASES[name]
    dose = float(rng.uniform(*DOSE))

    def enhanced(unenhanced: Range, enhancement: Range) -> float:
        return float(rng.uniform(*unenhanced) + dose * rng.uniform(*enhancement))

    kidney = float(rng.uniform(24, 42))
    cortex = dose * float(rng.uniform(*phase.cortex))
    blood = (32.0, 50.0)
    liver = (-5.0, 45.0) if rng.random() < STEATOSIS_SHARE else (45.0, 70.0)
    bone = float(rng.uniform(0.6, 1.3))
    has_oral_contrast = rng.random() < ORAL_CONTRAST_SHARE
    return Enhancement(
        cortex=kidney + cortex,
        medulla=kidney + cortex * float(rng.uniform(*phase.medulla)),
        liver=enhanced(liver, phase.liver),
        spleen=enhanced((40, 55), phase.spleen),
        aorta=enhanced(blood, phase.aorta),
        vein=enhanced(blood, phase.vein),
        pancreas=enhanced((20, 48), phase.liver),
        cava=enhanced(blood, phase.cava),
        fat=float(rng.uniform(-118, -88)),
        muscle=enhanced((38, 62), phase.muscle),
        bowel_wall=enhanced((25, 45), phase.bowel_wall),
        contents=float(rng.uniform(120, 420)) if has_oral_contrast else float(rng.uniform(-10, 50)),
        urine=float(rng.uniform(-2, 18)) + float(rng.uniform(*phase.urine)),
        cancellous=210 * bone,
        compact=820 * bone,
        tumor_looks=_draw_looks(phase, kidney, cortex, dose),
    )


def _draw_looks(phase: Phase, kidney_hu: float, cortex_hu: float, dose: float) -> dict[TumorKind, TumorLook]:
    """Return the looks of tumors: CT numbers of unenhanced parenchyma plus the enhancement of each kind."""
    means: dict[TumorKind, Range] = {
        kind: (kidney_hu + dose * low, kidney_hu + dose * high) for kind, (low, high) in phase.tumors.items()
    }
    means["isodense"] = (kidney_hu + 0.7 * cortex_hu - 8, kidney_hu + 0.95 * cortex_hu + 8)
    return {kind: TumorLook(means[kind], texture) for kind, texture in _TEXTURE_HU.items()}
