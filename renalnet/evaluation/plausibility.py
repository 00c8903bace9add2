"""Whether a mask can be a kidney at all, by its volume and by the number of its pieces."""

from collections.abc import Iterator
from typing import Final

from renalnet.config import LabelSet
from renalnet.data.cases.plausible_volumes import PLAUSIBLE_KIDNEY_ML, PLAUSIBLE_TUMOR_ML
from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.pieces import pieces_of
from renalnet.evaluation.surface import bounding_box
from renalnet.types import BACKGROUND, LabelArray, MaskArray, Triple

MAX_PIECES: Final = 5
"""Pieces of at least `PIECE_ML` that the mask of one kidney may have, and as many of its tumor."""
PIECE_ML: Final = 0.1
"""Volume of the smallest piece that counts, as in the checks of `prepare`."""


def implausible(labels: LabelArray, spacing_mm: Triple, label_set: LabelSet, name: str) -> Iterator[str]:
    """Yield a line for each measure of a kidney's mask that is outside the range of real kidneys.

    The ranges of volumes are those that `prepare` judges label maps by. An empty mask yields nothing, and no tumor is
    plausible.

    Args:
        labels: labels (z, y, x) of one kidney.
        spacing_mm: voxel spacing (z, y, x).
        label_set: meaning of the labels.
        name: the kidney in the lines, such as "left kidney".
    """
    if not (labels != BACKGROUND).any():
        return
    # The mask may be that of a whole scan, of which a kidney is a small part.
    inside = labels[bounding_box(labels != BACKGROUND)]
    of_voxel = voxel_ml(spacing_mm)
    kidney = inside == label_set.kidney.value
    tumor = inside == label_set.tumor.value
    for what, mask, (low, high) in ((name, kidney, PLAUSIBLE_KIDNEY_ML), (f"{name}: tumor", tumor, PLAUSIBLE_TUMOR_ML)):
        volume_ml = int(mask.sum()) * of_voxel
        if volume_ml and not low <= volume_ml <= high:
            yield f"{what} of {volume_ml:.1f} ml, outside the plausible range of {low:g} to {high:g} ml; check the mask"
    for what, mask in ((name, label_set.body_mask(inside)), (f"{name}: tumor", tumor)):
        count = _num_pieces(mask, of_voxel)
        if count > MAX_PIECES:
            yield f"{what} in {count} pieces of {PIECE_ML:g} ml or more, more than {MAX_PIECES}; check the mask"


def _num_pieces(mask: MaskArray, of_voxel_ml: float) -> int:
    _, sizes = pieces_of(mask)
    # Number 0 is everything outside the mask.
    return int((sizes[1:] * of_voxel_ml >= PIECE_ML).sum())
