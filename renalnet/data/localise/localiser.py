"""Multi-atlas localisation of the kidneys (paper, II.A), with a box and a confidence for each kidney.

The atlases give the expected position of each kidney (`consensus`). The scan shows the extent of the kidney and its
tumor (`outline`). The confidence combines independent evidence that the outline is a kidney. The paper does not
describe how atlases are aligned and combined, so all of this is reconstruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from scipy import ndimage

from renalnet.config import PrepareConfig
from renalnet.data.cases.sides import SIDES, Box, Side
from renalnet.data.images.resampling import covering_grid, regrid_image, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.atlas import Atlas
from renalnet.data.localise.consensus import Consensus, consensus_by_place
from renalnet.data.localise.outline import SPACING_MM, Region, cut_region, outline_kidney
from renalnet.errors import InputError
from renalnet.types import MaskArray

LOW_CONFIDENCE: Final = 0.6
"""Smallest confidence of a box that is used.

Most enhanced kidneys of phantoms have 1, unenhanced ones 0.7 beside fat and 0.35 beside the liver, and those of an
unenhanced real scan 0.8. Heads, air, noise, lungs and upside-down scans stay below 0.6.
"""
MARGIN_MM: Final = (12.0, 5.0, 5.0)
"""Margin between outline and box, (z, y, x). It is larger along z, because slices are thick and poles are thin."""
TAIL_ROOM_MM: Final = 7.0
"""Growth of a box along z towards a thin end of the outline.

Such ends are polar tumors as often as leaks. A larger margin on both sides made one box in ten too long.
"""
IN_PLANE_MM: Final = 109.5
"""Smallest in-plane edge of a box. It leaves room for parts of a tumor that the outline missed."""
SHELL_MM: Final = (3.0, 9.0)
"""Range of distances from the outline in which a kidney has its perirenal fat."""
FAT_HU: Final = (-150.0, -30.0)
ENHANCED_HU: Final = 90.0
"""Smallest median of a kidney with contrast agent. Without it, kidneys have about 30 HU."""
DARKER_ENHANCED: Final = (0.85, 0.95)
"""Shares of darker surroundings that give an enhanced kidney confidence 0 and 1.

It is brighter than all its neighbours, which is not true of liver and spleen.
"""
DARKER_UNENHANCED: Final = (0.4, 0.7)
"""Shares of darker surroundings that give an unenhanced kidney confidence 0 and 1. Only fat is darker than it."""
CONTRAST_HU: Final = 45.0
"""Smallest difference between an enhanced kidney and a voxel that counts as darker."""
# Each pair of ranges maps a measure to a factor of the confidence; the factor is interpolated between them.
_SIMILARITY: Final = ((0.2, 0.5), (0, 1))
_OVERLAP: Final = ((0.4, 0.7), (0, 1))
# In the paper, a kidney has up to 263 ml and a tumor up to 145 ml, together 408 ml.
_VOLUME_ML: Final = ((20, 60, 450, 700), (0, 1, 1, 0))


@dataclass(frozen=True)
class Evidence:
    """Measures of an outline that show whether it is a kidney."""

    similarity: float
    """Correlation of the scan with the atlases' kidneys and their surroundings, -1 to 1."""
    overlap: float
    """Share of the expected kidney that is inside the outline, 0 to 1."""
    darker_share: float
    """Share of the outline's surroundings that is darker than it but not air, 0 to 1.

    This is fat, and for an enhanced kidney also other organs.
    """
    volume_ml: float
    median_hu: float

    @property
    def confidence(self) -> float:
        """Product of a factor for each measure, 0 to 1. A factor is 0 for a value that excludes a kidney."""
        darker = DARKER_ENHANCED if self.median_hu > ENHANCED_HU else DARKER_UNENHANCED
        factors = (
            np.interp(self.similarity, *_SIMILARITY),
            np.interp(self.overlap, *_OVERLAP),
            np.interp(self.darker_share, darker, (0, 1)),
            np.interp(self.volume_ml, *_VOLUME_ML),
        )
        return float(np.prod(factors))


class KidneyEvidence(Protocol):
    """What shows that something is a kidney."""

    @property
    def confidence(self) -> float:
        """Confidence that it is one, 0 to 1."""
        ...


@dataclass(frozen=True)
class FoundKidney:
    """A kidney with its tumor, as found in a scan."""

    box: Box
    """Box that contains the kidney with a margin on each side. That of the atlases has in-plane at least
    `IN_PLANE_MM`."""
    outline: Box
    """Box of the outline without margin."""
    confidence: float
    """Confidence, 0 to 1. A kidney below `LOW_CONFIDENCE` is doubtful."""
    evidence: KidneyEvidence
    """Evidence of the atlases or of the network that found it."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, such as that the scan shows only a part of the kidney."""


@dataclass(frozen=True)
class Localisation:
    """The kidneys of a scan."""

    left: FoundKidney | None
    right: FoundKidney | None

    def box(self, side: Side) -> Box | None:
        """Return the box of a side, even if it is doubtful, or None if nothing resembles a kidney."""
        found = self.kidney(side)
        return found.box if found else None

    def kidney(self, side: Side) -> FoundKidney | None:
        """Return the kidney of a side, or None."""
        return self.left if side == "left" else self.right

    def confidence_of(self, side: Side) -> float:
        """Return the confidence in a side's box, 0 to 1. It is 0 without a box."""
        found = self.kidney(side)
        return found.confidence if found else 0.0

    @property
    def confidence(self) -> float:
        """Confidence that the scan shows a kidney: the larger one of both sides."""
        return max(map(self.confidence_of, SIDES))

    @property
    def confident_sides(self) -> tuple[Side, ...]:
        """Sides with a confidence of at least `LOW_CONFIDENCE`."""
        return tuple(side for side in SIDES if self.confidence_of(side) >= LOW_CONFIDENCE)


def localise(
    image: Volume, atlases: Sequence[Atlas], config: PrepareConfig, *, exclude: str | None = None
) -> Localisation:
    """Find the kidneys of a canonical scan.

    Args:
        image: canonical int16 HU (z, y, x), of any part of the body at any spacing.
        atlases: atlases of training cases, at `config.atlas_spacing_mm`.
        config: configuration with the spacing of the atlases.
        exclude: name of the scan's own case. An atlas of this case is not used.

    Returns:
        The kidneys. The result is the same on every machine.

    Raises:
        InputError: there is no atlas to use.
    """
    used = [atlas for atlas in atlases if atlas.name != exclude]
    if not used:
        raise InputError("no atlas to localise with; prepare with more training cases or use localise=cut")
    coarse = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    scan = regrid_image(image, coarse, float(image.array.min()))
    best = Localisation(None, None)
    # A later place is tried only while a kidney is doubtful. The place with the largest sum of confidences wins.
    for consensus in consensus_by_place(scan.array, used):
        found = Localisation(*(_find_kidney(image, coarse, consensus.get(side)) for side in SIDES))
        best = max(best, found, key=lambda one: one.confidence_of("left") + one.confidence_of("right"))
        if len(best.confident_sides) == len(SIDES):
            break
    return best


def _find_kidney(image: Volume, coarse: Grid, consensus: Consensus | None) -> FoundKidney | None:
    if consensus is None or not consensus.kidney.any():
        return None
    region = cut_region(image, coarse, consensus)
    outline = outline_kidney(region)
    box, reach = (Box.around(mask, region.grid) for mask in (outline.kidney, outline.with_tails))
    if box is None or reach is None:
        return None
    evidence = _evidence(region, consensus, outline.kidney)
    return FoundKidney(_with_margin(box, reach), box, evidence.confidence, evidence)


def _evidence(region: Region, consensus: Consensus, outline: MaskArray) -> Evidence:
    expected = region.kidney >= 0.5
    shared = outline & expected
    distance_mm = ndimage.distance_transform_edt(~outline, sampling=SPACING_MM)
    shell = region.hu[(distance_mm > SHELL_MM[0]) & (distance_mm <= SHELL_MM[1])]
    # There is such a voxel: an outline contains its core, which the atlases expected.
    median_hu = float(np.median(region.hu[shared]))
    darker = (shell > FAT_HU[0]) & (shell < max(FAT_HU[1], median_hu - CONTRAST_HU))
    return Evidence(
        similarity=consensus.similarity,
        overlap=np.count_nonzero(shared) / np.count_nonzero(expected),
        darker_share=float(darker.mean()) if shell.size else 0.0,
        volume_ml=float(np.count_nonzero(outline) * region.grid.voxel_ml),
        median_hu=median_hu,
    )


def _with_margin(outline: Box, with_tails: Box) -> Box:
    """Return the outline's box with a margin, enlarged towards its thin ends as far as there is room.

    Along z the room is `TAIL_ROOM_MM`. In-plane it is the rest up to `IN_PLANE_MM`, and all of it is used.
    """
    low = np.subtract(outline.low_mm, MARGIN_MM)
    high = np.add(outline.high_mm, MARGIN_MM)
    room = np.maximum((TAIL_ROOM_MM, *np.subtract(IN_PLANE_MM, (high - low)[1:])), 0)
    below = np.maximum(np.subtract(outline.low_mm, with_tails.low_mm), 0)
    above = np.maximum(np.subtract(with_tails.high_mm, outline.high_mm), 0)
    # Without thin ends, both sides get the same share of the room.
    share = np.divide(below, below + above, out=np.full(3, 0.5), where=below + above > 0)
    grown = np.array([min(room[0], below[0] + above[0]), room[1], room[2]])
    return Box(triple_of(low - share * grown), triple_of(high + (1 - share) * grown))
