"""Each piece of each lesion of a kidney, with its volume and diameter."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from renalnet.config.labels import TUMOR
from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.pieces import pieces_of
from renalnet.planning.extent import diameter_mm
from renalnet.planning.kidneys import Kidney
from renalnet.types import MaskArray

LEAST_ML: Final = 0.1
"""Smaller pieces are not listed; the sheet counts them."""
MOST_PIECES: Final = 8
"""Largest number of pieces of one kind that are listed, the largest first."""


@dataclass(frozen=True)
class Lesion:
    """A piece of a lesion."""

    label: str
    """Name of the lesion, such as `tumor` or `cyst`."""
    number: int
    """Place among the pieces of this kind, by falling volume, from 1."""
    volume_ml: float
    """Volume."""
    diameter_3d_mm: float
    """Largest diameter."""


def lesions_of(kidney: Kidney) -> list[Lesion]:
    """Return the pieces of `LEAST_ML` or more of each lesion of a kidney, the tumor first, by falling volume."""
    masks = {TUMOR: kidney.tumor, **kidney.other_lesions}
    return [lesion for label, mask in masks.items() for lesion in _pieces(label, mask, kidney)]


def _pieces(label: str, mask: MaskArray, kidney: Kidney) -> Iterator[Lesion]:
    numbered, sizes = pieces_of(mask)
    volumes_ml = sizes[1:] * voxel_ml(kidney.spacing_mm)
    order = np.argsort(-volumes_ml, kind="stable")[:MOST_PIECES]
    for place, index in enumerate(order, start=1):
        if volumes_ml[index] >= LEAST_ML:
            piece = numbered == 1 + index
            yield Lesion(label, place, float(volumes_ml[index]), diameter_mm(piece, kidney.spacing_mm))
