"""The measures of a planning sheet, a kidney each.

The R.E.N.A.L. score (Kutikov and Uzzo, Journal of Urology, 2009) is told as far as a mask of kidney and tumor can
tell it. R and E are measured. L needs the polar lines, where vessels and fat of the hilum interrupt the kidney's lip:
no label shows these, and the ends of the middle third of the kidney's longest axis stand for them. N, the nearness to
the collecting system, has no label at all and is not computed, so that there is no sum.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from renalnet.inference.components import pieces_of
from renalnet.planning.area import contact_cm2, surface_cm2
from renalnet.planning.extent import Points, axial_diameter_mm, covariance, diameter_mm, voxel_centres_mm
from renalnet.planning.kidneys import Kidney
from renalnet.planning.outline import exophytic_share
from renalnet.types import MaskArray

Face: TypeAlias = Literal["anterior", "posterior", "neither"]
MARGIN_MM: Final = 5.0
"""Parenchyma nearer to the tumor than this counts as taken with it, unless another margin is asked for."""
_FACE_MM: Final = 5.0
"""A tumor whose middle is nearer to the kidney's than this, from front to back, is on neither face."""
_OUTLINE_ERROR: Final = 0.02
"""Of the exophytic share, by the tests on bodies of known form."""
_MM3_PER_ML: Final = 1000.0


@dataclass(frozen=True)
class Polar:
    """Where a tumor is along the kidney's longest axis, by the ends of the axis' middle third."""

    beyond_upper: float
    """Share of the tumor's volume above the upper line, 0-1."""
    beyond_lower: float
    to_upper_mm: float
    """From the tumor's nearest edge to the upper line; 0 where it crosses it."""
    to_lower_mm: float

    @property
    def points(self) -> int:
        """R.E.N.A.L.'s L: 1 wholly beyond a line; 2 across one; 3 more than half across, or wholly between them."""
        between = 1 - self.beyond_upper - self.beyond_lower
        if between == 0:
            return 1
        return 3 if between > 0.5 else 2


@dataclass(frozen=True)
class Tumor:
    """The largest piece of tumor of a kidney."""

    volume_ml: float
    diameter_3d_mm: float
    diameter_axial_mm: float
    surface_cm2: float
    contact_cm2: float
    """Surface in which it touches the kidney (contact surface area: Leslie et al., European Urology, 2015)."""
    exophytic_share: float
    """Of its volume outside the kidney's continued outline, 0-1."""
    polar: Polar
    behind_mm: float
    """How far its middle is behind that of the kidney, towards the back; negative in front of it."""
    c_index: float
    """Distance of its middle from the kidney's over its radius (after Simmons et al., Journal of Urology, 2010, who
    measure from the middle of the sinus): the smaller, the more central."""

    @property
    def face(self) -> Face:
        """R.E.N.A.L.'s A."""
        if abs(self.behind_mm) < _FACE_MM:
            return "neither"
        return "posterior" if self.behind_mm > 0 else "anterior"

    @property
    def radius_points(self) -> int:
        """R.E.N.A.L.'s R: up to 4 cm, less than 7 cm, more."""
        return 1 if self.diameter_3d_mm <= 40 else 2 if self.diameter_3d_mm < 70 else 3

    @property
    def exophytic_points(self) -> int:
        """R.E.N.A.L.'s E: at least half exophytic, less, wholly endophytic but for the error of the outline."""
        return 1 if self.exophytic_share >= 0.5 else 2 if self.exophytic_share > _OUTLINE_ERROR else 3


@dataclass(frozen=True)
class Sheet:
    """A kidney and its largest tumor."""

    side: str
    kidney_ml: float
    """Without tumor."""
    kidney_length_mm: float
    tumor_ml: float
    """Of all pieces; 0 where there is none."""
    num_tumors: int
    remaining_ml: float
    """Kidney farther from the tumor than the margin."""
    margin_mm: float
    tumor: Tumor | None
    """None where there is none."""

    @property
    def remaining_share(self) -> float | None:
        """Of the kidney's volume, 0-1; None of no kidney."""
        return self.remaining_ml / self.kidney_ml if self.kidney_ml else None


def measure_kidney(kidney: Kidney, margin_mm: float = MARGIN_MM) -> Sheet:
    """The sheet of a kidney that `find_kidneys` found.

    At 1 × 0.65 × 0.65 and 3 × 0.8 × 0.8 mm the lengths of balls of 2 cm and more and of a kidney's ellipsoid are within
    2 %, contacts within 4 % or 0.2 cm² and surfaces without sharp edges within 2 %; at 5 × 1 × 1 mm within 3 %, 7 %
    or 0.4 cm², and 4 %. The exophytic share is within 0.02. Values of bodies of a few voxels mean little, but are
    finite.
    """
    ml = float(np.prod(kidney.spacing_mm)) / _MM3_PER_ML
    tumor, num_tumors = _largest(kidney.tumor)
    return Sheet(
        side=kidney.side,
        kidney_ml=int(kidney.kidney.sum()) * ml,
        kidney_length_mm=diameter_mm(kidney.labels > 0, kidney.spacing_mm),
        tumor_ml=int(kidney.tumor.sum()) * ml,
        num_tumors=num_tumors,
        remaining_ml=_num_remaining(kidney, margin_mm) * ml,
        margin_mm=margin_mm,
        tumor=_measure_tumor(kidney, tumor) if num_tumors and kidney.kidney.any() else None,
    )


def _largest(tumor: MaskArray) -> tuple[MaskArray, int]:
    """The largest piece, and how many there are."""
    numbered, sizes = pieces_of(tumor)
    if len(sizes) < 2:
        return tumor, 0
    largest: MaskArray = numbered == 1 + int(np.argmax(sizes[1:]))
    return largest, len(sizes) - 1


def _num_remaining(kidney: Kidney, margin_mm: float) -> int:
    """Voxels of kidney, by their middles."""
    import edt

    if not kidney.tumor.any():
        return int(kidney.kidney.sum())
    to_tumor_mm = edt.edt(~kidney.tumor, anisotropy=kidney.spacing_mm)
    return int((kidney.kidney & (to_tumor_mm > margin_mm)).sum())


def _measure_tumor(kidney: Kidney, tumor: MaskArray) -> Tumor:
    spacing_mm = kidney.spacing_mm
    middle, of_kidney = (voxel_centres_mm(mask, spacing_mm).mean(axis=0) for mask in (tumor, kidney.labels > 0))
    axial_mm = axial_diameter_mm(tumor, spacing_mm)
    largest_mm = max(diameter_mm(tumor, spacing_mm), axial_mm)  # smoothing in space and in a slice differ a little
    return Tumor(
        volume_ml=int(tumor.sum()) * float(np.prod(spacing_mm)) / _MM3_PER_ML,
        diameter_3d_mm=largest_mm,
        diameter_axial_mm=axial_mm,
        surface_cm2=surface_cm2(tumor, spacing_mm),
        contact_cm2=contact_cm2(kidney.kidney, tumor, spacing_mm),
        exophytic_share=exophytic_share(kidney.kidney, tumor, spacing_mm),
        polar=_measure_polar(kidney, tumor),
        behind_mm=float(middle[1] - of_kidney[1]),
        c_index=float(np.linalg.norm(middle - of_kidney)) / max(largest_mm / 2, min(spacing_mm) / 2),
    )


def _measure_polar(kidney: Kidney, tumor: MaskArray) -> Polar:
    axis = _longest_axis(voxel_centres_mm(kidney.kidney, kidney.spacing_mm))
    along = voxel_centres_mm(kidney.kidney, kidney.spacing_mm) @ axis
    lower, upper = np.quantile(along, (0, 1)) @ np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3]])
    of_tumor = voxel_centres_mm(tumor, kidney.spacing_mm) @ axis
    return Polar(
        beyond_upper=float((of_tumor > upper).mean()),
        beyond_lower=float((of_tumor < lower).mean()),
        to_upper_mm=_to_line_mm(of_tumor, float(upper)),
        to_lower_mm=_to_line_mm(of_tumor, float(lower)),
    )


def _longest_axis(points_mm: Points) -> Points:
    """Unit vector along which points vary most, towards the head."""
    _, vectors = np.linalg.eigh(covariance(points_mm))
    axis: Points = vectors[:, -1]
    return axis if axis[0] >= 0 else -axis


def _to_line_mm(along_mm: Points, line_mm: float) -> float:
    """From a line to the nearest of some places; 0 where there are some on both sides."""
    return max(0.0, float(along_mm.min()) - line_mm, line_mm - float(along_mm.max()))
