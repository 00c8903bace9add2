"""Multi-atlas localisation of the kidneys (paper, II.A), each with its own box and its own confidence.

The atlases vote on where each kidney is (`vote`), the scan shows how far it and its tumor reach (`outline`), and
independent pieces of evidence say whether that is to be believed. How the paper aligns and votes it does not say: all
of that is reconstruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from renalnet.config import PrepareConfig
from renalnet.data.cases.sides import SIDES, Box, Side
from renalnet.data.images.resampling import covering_grid, regrid_image, triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.atlas import Atlas
from renalnet.data.localise.outline import SPACING_MM, Region, cut_region, outline_kidney
from renalnet.data.localise.vote import Consensus, votes
from renalnet.errors import InputError
from renalnet.types import MaskArray

LOW_CONFIDENCE: Final = 0.6
"""Enhanced kidneys of phantoms mostly score 1, unenhanced ones beside fat 0.7, beside liver 0.35; those of an
unenhanced real scan 0.8. Heads, air, noise, lungs and scans turned upside down stay below 0.6."""
MARGIN_MM: Final = (12.0, 5.0, 5.0)
"""Between outline and box, (z, y, x): more along z, where slices are thick and poles are thin."""
TAIL_ROOM_MM: Final = 7.0
"""By which a box grows along z towards a thin end of the outline, which may be a polar tumor or a leak."""
IN_PLANE_MM: Final = 109.5
"""Least side of a box in-plane: room for what of a tumor the outline missed."""
SHELL_MM: Final = (3.0, 9.0)
"""Distances from the outline between which a kidney has its fat."""
FAT_HU: Final = (-150.0, -30.0)
ENHANCED_HU: Final = 90.0
DARKER_ENHANCED: Final = (0.85, 0.95)
"""From none to certain: an enhanced kidney outshines all its neighbours, which liver and spleen do not."""
DARKER_UNENHANCED: Final = (0.4, 0.7)
"""From none to certain: an unenhanced kidney is told from its neighbours by the fat around it."""
CONTRAST_HU: Final = 45.0
"""By which an enhanced kidney is brighter than its neighbours."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for an outline being a kidney."""

    similarity: float
    """Correlation of the scan with the atlases' kidneys and their surroundings, -1 to 1."""
    overlap: float
    """Share of the expected kidney that the outline holds, 0-1."""
    darker_share: float
    """Share of the outline's surroundings that is darker than it but not air: fat, and beside an enhanced kidney also
    other organs, 0-1."""
    volume_ml: float
    median_hu: float

    @property
    def confidence(self) -> float:
        """0-1: the product of what each piece is worth, from 0 where it excludes a kidney to 1 where it is as usual."""
        darker = DARKER_ENHANCED if self.median_hu > ENHANCED_HU else DARKER_UNENHANCED
        worth = (
            np.interp(self.similarity, (0.2, 0.5), (0, 1)),
            np.interp(self.overlap, (0.4, 0.7), (0, 1)),
            np.interp(self.darker_share, darker, (0, 1)),
            np.interp(self.volume_ml, (20, 60, 450, 700), (0, 1, 1, 0)),
        )
        return float(np.prod(worth))


@dataclass(frozen=True)
class FoundKidney:
    """One kidney with its tumor."""

    box: Box
    """Holds it for certain: a margin on each side, in-plane at least `IN_PLANE_MM`."""
    outline: Box
    """As far as it was followed."""
    confidence: float
    """0-1, that of its evidence; doubtful below `LOW_CONFIDENCE`."""
    evidence: Evidence


@dataclass(frozen=True)
class Localisation:
    """Where the kidneys of a scan lie."""

    left: FoundKidney | None
    right: FoundKidney | None

    def box(self, side: Side) -> Box | None:
        """The box of a side, however doubtful; none where nothing like a kidney is."""
        found = self.on(side)
        return found.box if found else None

    def on(self, side: Side) -> FoundKidney | None:
        """What was found on a side."""
        return self.left if side == "left" else self.right

    def confidence_of(self, side: Side) -> float:
        """The confidence in a side's box, 0-1; 0 without one."""
        found = self.on(side)
        return found.confidence if found else 0.0

    @property
    def confidence(self) -> float:
        """That of the surer side: of the scan showing a kidney at all."""
        return max(map(self.confidence_of, SIDES))

    @property
    def sure_sides(self) -> tuple[Side, ...]:
        """The sides whose box is to be relied on."""
        return tuple(side for side in SIDES if self.confidence_of(side) >= LOW_CONFIDENCE)


def localise(
    image: Volume, atlases: Sequence[Atlas], config: PrepareConfig, *, exclude: str | None = None
) -> Localisation:
    """Find the kidneys of a canonical scan.

    Args:
        image: int16 HU (z, y, x), upright; any part of the body at any spacing.
        atlases: of training patients, at `config.atlas_spacing_mm`.
        config: spacing of the atlases.
        exclude: the name of the scan's own case; an atlas made of it does not take part.

    Returns:
        The same for the same arguments on any machine.

    Raises:
        InputError: no atlas is left.
    """
    used = [atlas for atlas in atlases if atlas.name != exclude]
    if not used:
        raise InputError("no atlas to localise with; prepare with more training cases or use localise=cut")
    coarse = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    scan = regrid_image(image, coarse, float(image.array.min()))
    best = Localisation(None, None)
    for consensus in votes(scan.array, used):
        found = Localisation(*(_find(image, coarse, consensus.get(side)) for side in SIDES))
        best = max(best, found, key=lambda one: one.confidence_of("left") + one.confidence_of("right"))
        if len(best.sure_sides) == len(SIDES):
            break
    return best


def _find(image: Volume, coarse: Grid, consensus: Consensus | None) -> FoundKidney | None:
    if consensus is None or not consensus.kidney.any():
        return None
    region = cut_region(image, coarse, consensus)
    outline = outline_kidney(region)
    box, reach = (Box.around(mask, region.grid) for mask in (outline.kidney, outline.with_tails))
    if box is None or reach is None:
        return None
    evidence = _weigh(region, consensus, outline.kidney)
    return FoundKidney(_with_margin(box, reach), box, evidence.confidence, evidence)


def _weigh(region: Region, consensus: Consensus, outline: MaskArray) -> Evidence:
    expected = region.kidney >= 0.5
    shared = outline & expected
    distance_mm = ndimage.distance_transform_edt(~outline, sampling=SPACING_MM)
    shell = region.hu[(distance_mm > SHELL_MM[0]) & (distance_mm <= SHELL_MM[1])]
    median_hu = float(np.median(region.hu[shared]))  # some voxel is: an outline holds its core, which was expected
    darker = (shell > FAT_HU[0]) & (shell < max(FAT_HU[1], median_hu - CONTRAST_HU))
    return Evidence(
        similarity=consensus.similarity,
        overlap=np.count_nonzero(shared) / np.count_nonzero(expected),
        darker_share=float(darker.mean()) if shell.size else 0.0,
        volume_ml=float(np.count_nonzero(outline) * region.grid.voxel_ml),
        median_hu=median_hu,
    )


def _with_margin(outline: Box, reach: Box) -> Box:
    """The outline and a margin, and of what reaches beyond it as much as the box has room for."""
    low, high = np.subtract(outline.low_mm, MARGIN_MM), np.add(outline.high_mm, MARGIN_MM)
    room = np.maximum((TAIL_ROOM_MM, *np.subtract(IN_PLANE_MM, (high - low)[1:])), 0)
    below, above = (
        np.maximum(np.subtract(*ends), 0) for ends in ((outline.low_mm, reach.low_mm), (reach.high_mm, outline.high_mm))
    )
    share = np.divide(below, below + above, out=np.full(3, 0.5), where=below + above > 0)
    grown = np.array([min(room[0], below[0] + above[0]), room[1], room[2]])
    return Box(triple_of(low - share * grown), triple_of(high + (1 - share) * grown))
