"""The kidneys of a mask: one in an ROI, two in a whole scan."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.evaluation.pieces import pieces_of
from renalnet.evaluation.plausibility import implausible
from renalnet.evaluation.surface import bounding_box
from renalnet.types import BACKGROUND, LabelArray, MaskArray, Triple

MIN_ML: Final = 10.0
"""Least volume of kidney and tumor together; smaller pieces belong to the nearest kidney."""
_MM3_PER_ML: Final = 1000.0


@dataclass(frozen=True, eq=False)
class Kidney:
    """One kidney with its lesions, cropped from its mask with a border of one voxel."""

    side: str
    """`right` or `left` where the mask holds two kidneys, else `kidney`."""
    labels: LabelArray
    """Labels of the kidney and its lesions (z, y, x); everything else is 0."""
    spacing_mm: Triple
    """Voxel spacing (z, y, x)."""
    label_set: LabelSet
    """Meaning of the labels."""

    @property
    def kidney(self) -> MaskArray:
        """Mask of the kidney without lesions."""
        mask: MaskArray = self.labels == self.label_set.kidney.value
        return mask

    @property
    def tumor(self) -> MaskArray:
        """Mask of all pieces of tumor."""
        mask: MaskArray = self.labels == self.label_set.tumor.value
        return mask

    @property
    def other_lesions(self) -> dict[str, MaskArray]:
        """Mask of each lesion that is not the tumor, by its name."""
        others = [lesion for lesion in self.label_set.lesions if lesion != self.label_set.tumor]
        return {lesion.name: self.labels == lesion.value for lesion in others}

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each measure that no real kidney has (`renalnet.evaluation.plausibility`)."""
        name = self.side if self.side == "kidney" else f"{self.side} kidney"
        return tuple(implausible(self.labels, self.spacing_mm, self.label_set, name))


def find_kidneys(labels: LabelArray, spacing_mm: Triple, label_set: LabelSet) -> list[Kidney]:
    """Return the kidneys of a label map (z, y, x) in canonical orientation, right before left; none if it is empty.

    The two largest pieces of at least `MIN_ML` are the kidneys; if no piece is as large, the largest piece is the
    kidney. Every other piece belongs to the kidney whose centre is nearer to its own. Other labels than the kidney and
    its lesions are left out.
    """
    numbered, sizes = pieces_of(label_set.body_mask(labels))
    if len(sizes) < 2:
        return []
    large_ml = sizes[1:] * float(np.prod(spacing_mm)) / _MM3_PER_ML >= MIN_ML
    order = 1 + np.argsort(-sizes[1:], kind="stable")
    heads = [int(number) for number in order if large_ml[number - 1]][:2] or [int(order[0])]
    centres = [np.argwhere(numbered == number).mean(axis=0) * spacing_mm for number in range(1, len(sizes))]
    owners = np.array([0, *(_nearest(number, heads, centres) for number in range(1, len(sizes)))])
    by_side = sorted(heads, key=lambda head: float(centres[head - 1][2]))  # x increases towards the patient's left
    sides = ("right", "left") if len(by_side) == 2 else ("kidney",)
    return [
        _cut(side, np.where(owners[numbered] == head, labels, np.uint8(BACKGROUND)), spacing_mm, label_set)
        for side, head in zip(sides, by_side, strict=True)
    ]


def _nearest(number: int, heads: list[int], centres: list[NDArray[np.float64]]) -> int:
    """Return the number of the kidney that a piece belongs to."""
    if number in heads:
        return number
    return min(heads, key=lambda head: float(np.linalg.norm(centres[head - 1] - centres[number - 1])))


def _cut(side: str, labels: LabelArray, spacing_mm: Triple, label_set: LabelSet) -> Kidney:
    return Kidney(side, np.pad(labels[bounding_box(labels != BACKGROUND)], 1), spacing_mm, label_set)
