"""Measurement of a planning sheet.

The R.E.N.A.L. score (Kutikov and Uzzo, Journal of Urology, 2009) is computed as far as a mask of kidney and tumor
allows. R and E are measured. L needs the polar lines, where the vessels and fat of the hilum interrupt the kidney's
lip, and the axial midline of the kidney. No label shows them, so the ends and the middle of the middle third of the
kidney's longest axis are used instead. N, the nearness to the collecting system, has no label; it can be given by hand.
`scores` has the sum, or the range that it can take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from renalnet.data.images.grid import voxel_ml
from renalnet.evaluation.overlap import volume_ml
from renalnet.evaluation.pieces import pieces_of
from renalnet.planning.area import contact_cm2, surface_cm2
from renalnet.planning.extent import (
    Points,
    axial_diameter_mm,
    diameter_mm,
    longest_axis,
    polar_lines_mm,
    voxel_centres_mm,
)
from renalnet.planning.kidneys import Kidney
from renalnet.planning.outline import exophytic_share
from renalnet.planning.tumor import Polar, Tumor
from renalnet.types import MaskArray

MARGIN_MM: Final = 5.0
"""Default margin: parenchyma closer to the tumor than this does not remain."""


@dataclass(frozen=True)
class Sheet:
    """A kidney and its largest tumor."""

    side: str
    """`right` or `left` where the mask holds two kidneys, else `kidney`."""
    kidney_ml: float
    """Volume of the kidney without lesions."""
    kidney_length_mm: float
    """Largest diameter of the kidney and its lesions together."""
    tumor_ml: float
    """Volume of all pieces of tumor; 0 without tumor."""
    num_tumors: int
    """Number of pieces of tumor."""
    remaining_ml: float
    """Volume of the kidney farther from the tumor than the margin."""
    margin_mm: float
    """Width of the margin."""
    tumor: Tumor | None
    """Largest piece of tumor; None without tumor or without kidney."""
    other_ml: Mapping[str, float]
    """Volume of each lesion that is not the tumor, by its name."""
    num_others: Mapping[str, int]
    """Number of pieces of each of these lesions."""
    nearness_mm: float | None = None
    """Distance of the tumor from the collecting system or sinus, as given by hand; None where it was not given."""

    @property
    def resected_ml(self) -> float:
        """Volume of the kidney that is resected with the tumor: what is within the margin."""
        return self.kidney_ml - self.remaining_ml

    @property
    def remaining_share(self) -> float | None:
        """`remaining_ml` as a share of the kidney's volume, 0 to 1; None without kidney."""
        return self.remaining_ml / self.kidney_ml if self.kidney_ml else None


def measure_kidney(kidney: Kidney, margin_mm: float = MARGIN_MM, nearness_mm: float | None = None) -> Sheet:
    """Measure a kidney that `find_kidneys` found.

    The accuracy was measured on balls of 2 cm and more and on an ellipsoid of a kidney's form. At 1 × 0.65 × 0.65 mm
    and 3 × 0.8 × 0.8 mm, lengths are within 2 %, contacts within 4 % or 0.2 cm², and surfaces without sharp edges
    within 2 %. At 5 × 1 × 1 mm they are within 3 %, 7 % or 0.4 cm², and 4 %. The exophytic share is within 0.02. The
    values of bodies of a few voxels are finite but have little meaning.

    Args:
        kidney: kidney with its tumors.
        margin_mm: parenchyma closer to the tumor than this does not remain.
        nearness_mm: distance of the tumor from the collecting system or sinus, where it is known.
    """
    ml = voxel_ml(kidney.spacing_mm)
    tumor, num_tumors = _largest(kidney.tumor)
    others = kidney.other_lesions
    return Sheet(
        side=kidney.side,
        kidney_ml=int(kidney.kidney.sum()) * ml,
        kidney_length_mm=diameter_mm(kidney.labels > 0, kidney.spacing_mm),
        tumor_ml=int(kidney.tumor.sum()) * ml,
        num_tumors=num_tumors,
        remaining_ml=_num_remaining(kidney, margin_mm) * ml,
        margin_mm=margin_mm,
        # The outline and the polar lines are found from voxels of kidney.
        tumor=_measure_tumor(kidney, tumor) if num_tumors and kidney.kidney.any() else None,
        other_ml={name: int(mask.sum()) * ml for name, mask in others.items()},
        # Number 0 is everything outside the lesion.
        num_others={name: len(pieces_of(mask)[1]) - 1 for name, mask in others.items()},
        nearness_mm=nearness_mm if num_tumors else None,
    )


def _largest(tumor: MaskArray) -> tuple[MaskArray, int]:
    """Return the mask of the largest piece of tumor, and the number of pieces."""
    numbered, sizes = pieces_of(tumor)
    if len(sizes) < 2:
        return tumor, 0
    largest: MaskArray = numbered == 1 + int(np.argmax(sizes[1:]))
    return largest, len(sizes) - 1


def _num_remaining(kidney: Kidney, margin_mm: float) -> int:
    """Return the number of kidney voxels whose centre is farther from the tumor than the margin."""
    import edt

    if not kidney.tumor.any():
        return int(kidney.kidney.sum())
    to_tumor_mm = edt.edt(~kidney.tumor, anisotropy=kidney.spacing_mm)
    return int((kidney.kidney & (to_tumor_mm > margin_mm)).sum())


def _measure_tumor(kidney: Kidney, tumor: MaskArray) -> Tumor:
    spacing_mm = kidney.spacing_mm
    centre, of_kidney = (voxel_centres_mm(mask, spacing_mm).mean(axis=0) for mask in (tumor, kidney.labels > 0))
    axial_mm = axial_diameter_mm(tumor, spacing_mm)
    largest_mm = max(
        diameter_mm(tumor, spacing_mm), axial_mm
    )  # the two are smoothed differently, so the axial one can be larger
    return Tumor(
        volume_ml=volume_ml(int(tumor.sum()), spacing_mm),
        diameter_3d_mm=largest_mm,
        diameter_axial_mm=axial_mm,
        surface_cm2=surface_cm2(tumor, spacing_mm),
        contact_cm2=contact_cm2(kidney.kidney, tumor, spacing_mm),
        exophytic_share=exophytic_share(kidney.kidney, tumor, spacing_mm),
        polar=_measure_polar(kidney, tumor),
        behind_mm=float(centre[1] - of_kidney[1]),
        medial_mm=_medial_mm(kidney.side, float(centre[2] - of_kidney[2])),
        c_index=float(np.linalg.norm(centre - of_kidney)) / max(largest_mm / 2, min(spacing_mm) / 2),
    )


def _medial_mm(side: str, left_mm: float) -> float | None:
    """Return how far a place is towards the midline, from how far it is towards the patient's left."""
    # x increases towards the patient's left, where the midline is for the right kidney.
    return {"right": left_mm, "left": -left_mm}.get(side)


def _measure_polar(kidney: Kidney, tumor: MaskArray) -> Polar:
    points_mm = voxel_centres_mm(kidney.kidney, kidney.spacing_mm)
    axis = longest_axis(points_mm)
    lower, upper = polar_lines_mm(points_mm @ axis)
    of_tumor = voxel_centres_mm(tumor, kidney.spacing_mm) @ axis
    return Polar(
        beyond_upper=float((of_tumor > upper).mean()),
        beyond_lower=float((of_tumor < lower).mean()),
        to_upper_mm=_to_line_mm(of_tumor, upper),
        to_lower_mm=_to_line_mm(of_tumor, lower),
        crosses_middle=_to_line_mm(of_tumor, (lower + upper) / 2) == 0,
    )


def _to_line_mm(along_mm: Points, line_mm: float) -> float:
    """Return the distance from a line to the nearest place along an axis; 0 where places are on both sides."""
    return max(0.0, float(along_mm.min()) - line_mm, line_mm - float(along_mm.max()))
