"""Errors of masks by the region of the kidney: at the margin of the tumor, at the hilum, at the poles, elsewhere.

The paper remarks on errors "near the renal hilum" in its Fig. 6. No label shows the hilum, so the true label map gives
the regions (reconstruction):

- `tumor_margin`: within `MARGIN_MM` of the surface of the tumor, on both sides;
- `hilum`: the largest hollow of the kidney, which a closing by `SINUS_MM` fills, and what is within `NEAR_MM` of it;
- `upper_pole`, `lower_pole`: beyond the ends of the middle third of the kidney's longest axis, as in a planning sheet;
- `elsewhere`: the rest.

A voxel belongs to the first region of this list that holds it, and to one only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.images.grid import voxel_ml
from renalnet.data.phantom.kidney_painting import SINUS_MM
from renalnet.evaluation.pieces import pieces_of
from renalnet.planning.extent import longest_axis, polar_lines_mm, voxel_centres_mm
from renalnet.types import LabelArray, MaskArray, Triple

MARGIN_MM: Final = 3.0
NEAR_MM: Final = 3.0
_FILLED_MM: Final = 1.0
"""Depth in the closing from which a voxel is in a hollow; rounding to voxels leaves small depths everywhere."""
REGIONS: Final = ("tumor_margin", "hilum", "upper_pole", "lower_pole", "elsewhere")
_ELSEWHERE: Final = REGIONS.index("elsewhere")


@dataclass(frozen=True)
class RegionErrors:
    """Voxels with a wrong label in one region of one case or of several."""

    region_ml: float
    """Volume of the true kidney and its lesions in the region."""
    error_ml: float
    """Volume with another label than the truth in the region, outside the kidney as well."""

    def __add__(self, other: "RegionErrors") -> "RegionErrors":
        return RegionErrors(self.region_ml + other.region_ml, self.error_ml + other.error_ml)


def regions_of(truth: LabelArray, spacing_mm: Triple, labels: LabelSet) -> NDArray[np.uint8]:
    """Return the place in `REGIONS` of each voxel (z, y, x).

    Args:
        truth: true label map (z, y, x) with a kidney or a lesion of it.
        spacing_mm: voxel spacing (z, y, x).
        labels: meaning of the values.
    """
    body = labels.body_mask(truth)
    regions = np.full(truth.shape, _ELSEWHERE, np.uint8)
    # From the last region of the list to the first, so that the first one wins.
    points_mm = voxel_centres_mm(body, spacing_mm)
    axis = longest_axis(points_mm)
    lower, upper = polar_lines_mm(points_mm @ axis)
    places = (voxel_centres_mm(np.ones_like(body), spacing_mm) @ axis).reshape(truth.shape)
    regions[places < lower] = REGIONS.index("lower_pole")
    regions[places > upper] = REGIONS.index("upper_pole")
    regions[_near(hollow_of(body, spacing_mm), spacing_mm, NEAR_MM)] = REGIONS.index("hilum")
    tumor = truth == labels.tumor.value
    regions[_near(tumor, spacing_mm, MARGIN_MM) & _near(~tumor, spacing_mm, MARGIN_MM)] = REGIONS.index("tumor_margin")
    return regions


def hollow_of(body: MaskArray, spacing_mm: Triple) -> MaskArray:
    """Return the largest hollow (z, y, x) of a kidney with its lesions; empty where it has none."""
    import edt

    # Padded, because at the border of an ROI the closing would be cut off.
    width = [int(np.ceil(2 * SINUS_MM / spacing)) for spacing in spacing_mm]
    padded = np.pad(body, [(number, number) for number in width])
    dilated = edt.edt(~padded, anisotropy=spacing_mm) < SINUS_MM
    depth = edt.edt(dilated, anisotropy=spacing_mm) - SINUS_MM
    inner = tuple(slice(number, -number) for number in width)
    pieces, sizes = pieces_of((depth > _FILLED_MM)[inner] & ~body)
    largest: MaskArray = pieces == 1 + int(np.argmax(sizes[1:])) if len(sizes) > 1 else np.zeros_like(body)
    return largest


def _near(mask: MaskArray, spacing_mm: Triple, most_mm: float) -> MaskArray:
    """Return the voxels within a distance of a mask, those of the mask included; none for an empty mask."""
    import edt

    if not mask.any():
        return np.zeros_like(mask)
    near: MaskArray = edt.edt(np.ascontiguousarray(~mask), anisotropy=spacing_mm) <= most_mm
    return near


def region_errors(
    truth: LabelArray, predictions: Mapping[str, LabelArray], spacing_mm: Triple, labels: LabelSet
) -> dict[tuple[str, str], RegionErrors]:
    """Return the errors of one case by method and region.

    Args:
        truth: true label map (z, y, x).
        predictions: label map of each method on the same grid.
        spacing_mm: voxel spacing (z, y, x).
        labels: meaning of the values.
    """
    regions = regions_of(truth, spacing_mm, labels)
    body_ml = _counts(regions, labels.body_mask(truth)) * voxel_ml(spacing_mm)
    return {
        (method, name): RegionErrors(float(body_ml[place]), float(wrong_ml[place]))
        for method, prediction in predictions.items()
        for wrong_ml in [_counts(regions, prediction != truth) * voxel_ml(spacing_mm)]
        for place, name in enumerate(REGIONS)
    }


def _counts(regions: NDArray[np.uint8], mask: MaskArray) -> NDArray[np.int64]:
    return np.bincount(regions[mask], minlength=len(REGIONS))


def summed(cases: Iterable[Mapping[tuple[str, str], RegionErrors]]) -> dict[tuple[str, str], RegionErrors]:
    """Return the sum over cases by method and region."""
    total: dict[tuple[str, str], RegionErrors] = {}
    for case in cases:
        for key, errors in case.items():
            total[key] = total[key] + errors if key in total else errors
    return total
