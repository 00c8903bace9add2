"""Draws of the wide painter: build, kidneys, contrast phase and scanner of a patient, and what else the scan shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from renalnet.config import Build, ContrastPhase, PhantomConfig
from renalnet.data.phantom.body import Habitus
from renalnet.data.phantom.imaging.phases import draw_phase, draw_wide_enhancement
from renalnet.data.phantom.imaging.scanner import Acquisition, draw_acquisition
from renalnet.data.phantom.imaging.tissue import Enhancement
from renalnet.types import Triple

_BUILDS: Final[dict[Build, tuple[float, float]]] = {"slim": (0.0, 0.33), "medium": (0.33, 0.67), "broad": (0.67, 1.0)}
"""Range of the weight of each build, 0 for the slimmest patient and 1 for the broadest."""


@dataclass(frozen=True)
class Variety:
    """How one patient and one scan differ from others; the defaults are those of the narrow painter."""

    phase: ContrastPhase | None = None
    """Contrast phase; None in narrow cohorts, which have no phase."""
    habitus: Habitus | None = None
    """Build; None to draw a narrow one."""
    enhancement: Enhancement | None = None
    """CT numbers of the tissues; None to draw narrow ones."""
    acquisition: Acquisition | None = None
    """How the scan is taken; None for the narrow way."""
    size: Triple = (1.0, 1.0, 1.0)
    """Factors of the body's size (z, y, x)."""
    kidney_spread: float = 1.0
    """Factor of the variation of kidneys in place and shape."""
    kidney_volume: float = 1.0
    """Factor of the volume of the kidneys."""
    num_cysts: int = 0
    """Cysts of the kidneys, beyond those of the label set."""
    has_stone: bool = False
    has_stent: bool = False
    """Whether a stent lies in a ureter."""
    has_arms: bool = False
    """Whether the arms lie beside the body."""
    has_one_kidney: bool = False
    """Whether the kidney without a tumor is absent, as after nephrectomy."""

    @property
    def is_wide(self) -> bool:
        """Whether the wide painter paints the case."""
        return self.phase is not None


def variety_of(config: PhantomConfig, index: int) -> Variety:
    """Return the variety of a case; a function of the configuration and the index alone."""
    if config.contrast == "narrow":
        return Variety()
    # A generator of its own, which the drawn anatomy does not share.
    rng = np.random.default_rng([config.seed, index, 11])
    phase = draw_phase(rng, config.phases)
    enhancement = draw_wide_enhancement(rng, phase)
    weight = _draw_weight(rng, config.builds)
    habitus = _draw_habitus(rng, weight)
    height = float(rng.uniform(0.85, 1.17))
    size = (height, float(rng.uniform(0.86, 1.05)) + 0.2 * weight, float(rng.uniform(0.86, 1.02)) + 0.2 * weight)
    return Variety(
        phase=phase,
        habitus=habitus,
        enhancement=enhancement,
        acquisition=draw_acquisition(rng, config, 2 * habitus.half_width * size[2], config.kernels),
        size=size,
        kidney_spread=1.8,
        kidney_volume=float(rng.uniform(0.65, 1.15)) * height**2,
        num_cysts=int(rng.integers(1, 5)) if rng.random() < 0.4 else 0,
        has_stone=bool(rng.random() < 0.12),
        has_stent=bool(rng.random() < 0.04),
        has_arms=bool(rng.random() < 0.2),
        has_one_kidney=bool(rng.random() < 0.06),
    )


def _draw_weight(rng: np.random.Generator, builds: Sequence[Build]) -> float:
    low, high = _BUILDS[builds[int(rng.integers(len(builds)))]]
    return float(rng.uniform(low, high))


def _draw_habitus(rng: np.random.Generator, weight: float) -> Habitus:
    return Habitus(
        half_width=144 + 20 * weight + float(rng.uniform(-6, 6)),
        half_depth=100 + 18 * weight + float(rng.uniform(-6, 6)),
        skin_fat=3 + 30 * weight**1.5 + float(rng.uniform(0, 4)),
        wall=float(rng.uniform(8, 17)),
        # Slim patients have hardly any fat around the kidneys, which then touch liver, spleen and bowel.
        perirenal_fat=max(0.3, 12 * weight + float(rng.uniform(-4, 4))),
        spread=2.2,
        bowel_fat=float(np.clip(0.1 + 0.3 * weight + rng.uniform(-0.08, 0.1), 0.03, 0.5)),
    )
