"""Evidence of a mask that it is a kidney: volume, shape and certainty, for a box in which the localiser is in doubt.

The surroundings say little in real scans, where bowel, liver and spleen may touch a kidney. The fine network sees the
kidney itself.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.pieces import pieces_of
from renalnet.types import FloatArray, LabelArray, Triple

# Each pair of ranges maps a measure to a factor of the confidence; the factor is interpolated between them.
_VOLUME_ML: Final = ((10, 35, 1200, 2500), (0, 1, 1, 0))
"""Volumes of a kidney with its lesions; a kidney with a large tumor has up to a liter."""
_CERTAINTY: Final = ((0.7, 0.88), (0, 1))
"""Mean probabilities of the mask. Where the network sees no kidney, it is uncertain about every voxel."""
_COMPACTNESS: Final = ((0.5, 0.8), (0, 1))
"""Shares of the mask in its largest piece."""
_FILLING: Final = ((0.08, 0.2), (0, 1))
"""Shares of the mask's own box that it fills: about half for a kidney, less for bowel or vessels."""


@dataclass(frozen=True)
class MaskEvidence:
    """Measures of a mask that show whether it is a kidney."""

    volume_ml: float
    """Volume of the kidney and its lesions."""
    certainty: float
    """Mean probability of kidney and lesions together inside the mask, 0 to 1; 0 for an empty mask."""
    compactness: float
    """Share of the mask in its largest piece, 0 to 1; 0 for an empty mask."""
    filling: float
    """Share of its own box that the mask fills, 0 to 1; 0 for an empty mask."""

    @property
    def confidence(self) -> float:
        """Product of a factor for each measure, 0 to 1. A factor is 0 for a value that excludes a kidney."""
        factors = (
            np.interp(self.volume_ml, *_VOLUME_ML),
            np.interp(self.certainty, *_CERTAINTY),
            np.interp(self.compactness, *_COMPACTNESS),
            np.interp(self.filling, *_FILLING),
        )
        return float(np.prod(factors))


def evidence_of(probability: FloatArray, vote: LabelArray, spacing_mm: Triple, labels: LabelSet) -> MaskEvidence:
    """Return the evidence of a vote; that of an empty one excludes a kidney.

    Args:
        probability: class probabilities (C, z, y, x) of the vote.
        vote: labels (z, y, x) before connectivity, which would remove all pieces but the largest.
        spacing_mm: voxel spacing (z, y, x).
        labels: meaning of the labels.
    """
    inside = labels.body_mask(vote)
    if not inside.any():
        return MaskEvidence(0.0, 0.0, 0.0, 0.0)
    body = [label.value for label in labels.body]
    count = int(np.count_nonzero(inside))
    _, sizes = pieces_of(inside)
    box = [int(np.ptp(np.flatnonzero(inside.any(axis=others)))) + 1 for others in ((1, 2), (0, 2), (0, 1))]
    return MaskEvidence(
        volume_ml=count * voxel_ml(spacing_mm),
        certainty=float(probability[body].sum(axis=0)[inside].mean()),
        # Number 0 is everything outside the mask.
        compactness=float(max(sizes[1:])) / count,
        filling=count / float(np.prod(box)),
    )
