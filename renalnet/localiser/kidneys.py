"""Kidneys from the probabilities of the coarse network: connected pieces, their sides, boxes and confidence."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Box, Side
from renalnet.data.images.resampling import triple_of
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import FloatArray, MaskArray

MARGIN_MM: Final = (13.0, 12.0, 12.0)
"""Margin between the voxels of a kidney on the coarse grid and its box, (z, y, x)."""
THRESHOLD: Final = 0.5
"""Probability of both kidneys together from which a voxel belongs to one."""
_VOLUME_ML: Final = ((8, 30, 1500, 4000), (0, 1, 1, 0))
"""Volumes of a kidney with its tumor, and the factor of its confidence. A scan may show a part of a kidney."""
_PIECE_SHARE: Final = 0.15
"""Smallest volume of a further piece of the same kidney, relative to the largest one."""
_PIECE_MM: Final = 25.0
"""Largest distance between two pieces of one kidney, such as a kidney and its tumor."""
_JOINED_SHARE: Final = 0.25
"""Smallest share of either side in one piece that is two joined kidneys, as a horseshoe kidney."""
_BOTH_ENDS: Final = 2
_ANY_CONTACT: Final = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class CoarseKidney:
    """A kidney with its lesions, as the coarse network sees it."""

    outline: Box
    """Box of its voxels on the coarse grid."""
    certainty: float
    """Mean probability of its voxels, 0.5 to 1."""
    volume_ml: float
    """Volume on the coarse grid, lesions included."""
    num_cut_ends: int
    """Whether it reaches neither the first nor the last slice (0), one of them (1) or both (2)."""
    is_joined: bool
    """Whether it touches the kidney of the other side, as a horseshoe kidney does."""
    mask: Volume
    """Its voxels (uint8) on the coarse grid."""

    @property
    def box(self) -> Box:
        """Box with a margin on each side."""
        return Box(
            triple_of(np.subtract(self.outline.low_mm, MARGIN_MM)), triple_of(np.add(self.outline.high_mm, MARGIN_MM))
        )

    @property
    def confidence(self) -> float:
        """Confidence that this is a kidney, 0 to 1: the certainty, 0 to 1, times a factor of the volume.

        It is halved where the scan shows neither pole: a few slices of the spleen look like those of a kidney.
        """
        factor = 0.5 if self.num_cut_ends == _BOTH_ENDS else 1.0
        return float(factor * 2 * (self.certainty - THRESHOLD) * np.interp(self.volume_ml, *_VOLUME_ML))


def kidneys_of(probability: FloatArray, grid: Grid) -> dict[Side, CoarseKidney]:
    """Return the kidney of each side; a side without voxels is absent.

    Args:
        probability: of left and right kidney, (2, z, y, x).
        grid: coarse grid.
    """
    total = probability.sum(axis=0)
    sides = _sides(probability, total > THRESHOLD)
    kidneys = {}
    for side in SIDES:
        mask = _largest_piece(sides == SIDE_VALUES[side], grid)
        if mask.any():
            kidneys[side] = _kidney(mask, total, sides, grid)
    return kidneys


def _sides(probability: FloatArray, mask: MaskArray) -> NDArray[np.uint8]:
    """Return the side of each voxel of the mask: that of its piece, or its own in a piece of two joined kidneys."""
    own = np.where(probability[0] >= probability[1], SIDE_VALUES["left"], SIDE_VALUES["right"]).astype(np.uint8)
    pieces, count = ndimage.label(mask, structure=_ANY_CONTACT)
    sides = np.zeros(mask.shape, np.uint8)
    if not count:
        return sides
    left_share = np.asarray(ndimage.mean(own == SIDE_VALUES["left"], pieces, np.arange(count + 1)))
    joined = (left_share > _JOINED_SHARE) & (left_share < 1 - _JOINED_SHARE)
    whole = np.where(left_share > THRESHOLD, SIDE_VALUES["left"], SIDE_VALUES["right"])
    sides[mask] = np.where(joined[pieces[mask]], own[mask], whole[pieces[mask]])
    return sides


def _largest_piece(mask: MaskArray, grid: Grid) -> MaskArray:
    """Return the largest piece of a mask with the large pieces close to it; empty for an empty mask."""
    pieces, count = ndimage.label(mask, structure=_ANY_CONTACT)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = pieces == sizes.argmax()
    distance_mm = ndimage.distance_transform_edt(~largest, sampling=grid.spacing_mm)
    nearest_mm = np.asarray(ndimage.minimum(distance_mm, pieces, np.arange(count + 1)))
    kept = (sizes >= _PIECE_SHARE * sizes.max()) & (nearest_mm <= _PIECE_MM)
    kept[0] = False
    return np.asarray(kept[pieces])


def _kidney(mask: MaskArray, total: FloatArray, sides: NDArray[np.uint8], grid: Grid) -> CoarseKidney:
    outline = Box.around(mask, grid)
    assert outline is not None  # the mask is not empty
    other = (sides > 0) & ~mask
    touching = ndimage.binary_dilation(mask, _ANY_CONTACT) & other
    return CoarseKidney(
        outline=outline,
        certainty=float(total[mask].mean()),
        volume_ml=float(np.count_nonzero(mask) * grid.voxel_ml),
        num_cut_ends=int(mask[0].any()) + int(mask[-1].any()),
        is_joined=bool(touching.any()),
        mask=Volume(mask.astype(np.uint8), grid),
    )
