"""The kidneys of a mask: one of a region that is cut to a kidney, two of a whole scan."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.surface import bounding_box
from renalnet.inference.components import pieces_of
from renalnet.types import BACKGROUND, KIDNEY, TUMOR, LabelArray, MaskArray, Triple

MIN_ML: Final = 10.0
"""Of kidney and tumor together; smaller pieces belong to the nearest kidney."""
_MM3_PER_ML: Final = 1000.0


@dataclass(frozen=True, eq=False)
class Kidney:
    """One kidney with its tumors, cut out of its mask with a border of one voxel."""

    side: str
    """`right` or `left` where a mask holds two, else `kidney`."""
    labels: LabelArray
    """(z, y, x); 0 where another kidney is."""
    spacing_mm: Triple

    @property
    def kidney(self) -> MaskArray:
        """Without the tumor."""
        mask: MaskArray = self.labels == KIDNEY
        return mask

    @property
    def tumor(self) -> MaskArray:
        """All of its pieces."""
        mask: MaskArray = self.labels == TUMOR
        return mask


def find_kidneys(labels: LabelArray, spacing_mm: Triple) -> list[Kidney]:
    """The kidneys of a mask (z, y, x) in the inner geometry, right before left; none of an empty mask.

    Of pieces of at least `MIN_ML` the two largest count as kidneys; what is apart from them belongs to the nearer one,
    from middle to middle.
    """
    numbered, sizes = pieces_of(labels != BACKGROUND)
    if len(sizes) < 2:
        return []
    large_ml = sizes[1:] * float(np.prod(spacing_mm)) / _MM3_PER_ML >= MIN_ML
    order = 1 + np.argsort(-sizes[1:], kind="stable")
    heads = [int(number) for number in order if large_ml[number - 1]][:2] or [int(order[0])]
    middles = [np.argwhere(numbered == number).mean(axis=0) * spacing_mm for number in range(1, len(sizes))]
    owners = np.array([0, *(_nearest(number, heads, middles) for number in range(1, len(sizes)))])
    by_side = sorted(heads, key=lambda head: float(middles[head - 1][2]))  # x grows towards the patient's left
    sides = ("right", "left") if len(by_side) == 2 else ("kidney",)
    return [
        _cut(side, np.where(owners[numbered] == head, labels, np.uint8(BACKGROUND)), spacing_mm)
        for side, head in zip(sides, by_side, strict=True)
    ]


def _nearest(number: int, heads: list[int], middles: list[NDArray[np.float64]]) -> int:
    """The kidney that a piece belongs to."""
    if number in heads:
        return number
    return min(heads, key=lambda head: float(np.linalg.norm(middles[head - 1] - middles[number - 1])))


def _cut(side: str, labels: LabelArray, spacing_mm: Triple) -> Kidney:
    return Kidney(side, np.pad(labels[bounding_box(labels != BACKGROUND)], 1), spacing_mm)
