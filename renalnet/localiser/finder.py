"""The kidneys of a scan, by the coarse network, with the multi-atlas vote of the paper as a second opinion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from renalnet.config import PrepareConfig
from renalnet.data.cases.sides import SIDES, Side
from renalnet.data.images.volume import Volume
from renalnet.data.localise.atlas import Atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE, FoundKidney, Localisation, localise
from renalnet.localiser.coarse_scan import coarse_image
from renalnet.localiser.kidneys import CoarseKidney, kidneys_of

if TYPE_CHECKING:
    from renalnet.localiser.network import CoarseNetwork

SURE_CONFIDENCE: Final = 0.8
"""Confidence of the network from which the atlases are not asked."""
ALONE_FACTOR: Final = 0.5
"""Factor of the confidence of a kidney that only the atlases find. It is then doubtful, however sure they are: in real
scans they take bone or spleen for a kidney."""
CUT: Final = "the scan shows only a part of it"
JOINED: Final = "it is joined to the other kidney"


@dataclass(frozen=True)
class KidneyFinder:
    """The coarse network and the atlases by which the kidneys of scans are found."""

    network: "CoarseNetwork | None"
    """None for a store or a bundle of an older version, which has atlases only."""
    atlases: Sequence[Atlas]
    config: PrepareConfig

    def find(self, image: Volume, *, exclude: str | None = None) -> Localisation:
        """Find the kidneys of a canonical scan.

        Args:
            image: canonical int16 HU (z, y, x), of any part of the body at any spacing.
            exclude: name of the scan's own case, whose atlas is not used.

        Returns:
            The kidneys. A side on which nothing resembles a kidney has none; a doubtful one has a confidence below
            `LOW_CONFIDENCE`.

        Raises:
            InputError: the atlases are asked, but there is none to use.
        """
        if self.network is None or self.config.localise == "atlas":
            return localise(image, self.atlases, self.config, exclude=exclude)
        coarse = coarse_image(image)
        kidneys = kidneys_of(self.network.kidneys(coarse), coarse.grid)
        found = {side: _found(kidney) for side, kidney in kidneys.items()}
        doubtful = [side for side in SIDES if side not in found or found[side].confidence < SURE_CONFIDENCE]
        if doubtful and any(atlas.name != exclude for atlas in self.atlases):
            second = localise(image, self.atlases, self.config, exclude=exclude)
            found |= _settled(found, second, doubtful)
        return Localisation(found.get("left"), found.get("right"))


def _found(kidney: CoarseKidney) -> FoundKidney:
    notes = [note for note, holds in ((CUT, kidney.num_cut_ends > 0), (JOINED, kidney.is_joined)) if holds]
    return FoundKidney(kidney.box, kidney.outline, kidney.confidence, kidney, tuple(notes))


def _settled(found: dict[Side, FoundKidney], second: Localisation, doubtful: Sequence[Side]) -> dict[Side, FoundKidney]:
    """Return the doubtful sides with the opinion of the atlases.

    A kidney that both find at one place is as sure as the surer of both. One that only the atlases find stays doubtful.
    """
    settled = {}
    for side in doubtful:
        other = second.kidney(side)
        if other is None:
            continue
        own = found.get(side)
        if own is None:
            settled[side] = replace(other, confidence=ALONE_FACTOR * other.confidence)
        elif own.outline.holds_centre_of(other.outline) and other.confidence >= LOW_CONFIDENCE:
            settled[side] = replace(own, confidence=max(own.confidence, LOW_CONFIDENCE))
    return settled
