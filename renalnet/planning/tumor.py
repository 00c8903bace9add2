"""The largest tumor of a kidney: its measures, and the points of the scores that follow from them."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Face: TypeAlias = Literal["anterior", "posterior", "neither"]
_FACE_MM: Final = 5.0
"""Least distance, from front to back, between the centres of a kidney and a tumor that is on one of its faces."""
_OUTLINE_ERROR: Final = 0.02
"""Largest error of the exophytic share in the tests on bodies of known form."""


@dataclass(frozen=True)
class Polar:
    """Place of a tumor along the kidney's longest axis, relative to the ends of the axis' middle third."""

    beyond_upper: float
    """Share of the tumor's volume above the upper line, 0 to 1."""
    beyond_lower: float
    """Share of the tumor's volume below the lower line, 0 to 1."""
    to_upper_mm: float
    """Distance from the tumor's nearest edge to the upper line; 0 where the tumor crosses it."""
    to_lower_mm: float
    """Distance from the tumor's nearest edge to the lower line, likewise."""
    crosses_middle: bool = False
    """Whether the tumor is on both sides of the middle of the axis."""

    @property
    def is_between(self) -> bool:
        """Whether more than half of the tumor is between the lines."""
        return self._between > 0.5

    @property
    def points(self) -> int:
        """L of R.E.N.A.L.: 1 wholly beyond a line, 2 across a line, 3 more than half between the lines or across the
        middle."""
        # Exact: a tumor wholly beyond one line has the shares 1 and 0.
        if self._between == 0:
            return 1
        return 3 if self.is_between or self.crosses_middle else 2

    @property
    def _between(self) -> float:
        return 1 - self.beyond_upper - self.beyond_lower


@dataclass(frozen=True)
class Tumor:
    """The largest piece of tumor of a kidney."""

    volume_ml: float
    """Volume."""
    diameter_3d_mm: float
    """Largest diameter."""
    diameter_axial_mm: float
    """Largest diameter within one axial slice."""
    surface_cm2: float
    """Area of the surface."""
    contact_cm2: float
    """Area in which it touches the kidney (contact surface area: Leslie et al., European Urology, 2015)."""
    exophytic_share: float
    """Share of the volume outside the kidney's continued outline, 0 to 1."""
    polar: Polar
    """Place along the kidney's longest axis."""
    behind_mm: float
    """Distance of its centre behind that of the kidney, towards the back; negative in front of it."""
    c_index: float
    """Distance of its centre from the kidney's over its radius; a smaller value is more central. Reconstructed after
    the C-index of Simmons et al. (Journal of Urology, 2010), who measure from the centre of the sinus instead."""

    medial_mm: float | None = None
    """Distance of its centre from that of the kidney towards the midline of the body; negative away from it, None where
    the side of the kidney is not known."""

    @property
    def rim_points(self) -> int | None:
        """Renal rim of PADUA: 1 lateral, 2 medial; None where the side of the kidney is not known."""
        if self.medial_mm is None:
            return None
        return 2 if self.medial_mm > 0 else 1

    @property
    def face(self) -> Face:
        """A of R.E.N.A.L.: the face of the kidney on which the tumor is."""
        if abs(self.behind_mm) < _FACE_MM:
            return "neither"
        return "posterior" if self.behind_mm > 0 else "anterior"

    @property
    def radius_points(self) -> int:
        """R of R.E.N.A.L.: 1 up to 4 cm, 2 below 7 cm, 3 from 7 cm."""
        return 1 if self.diameter_3d_mm <= 40 else 2 if self.diameter_3d_mm < 70 else 3

    @property
    def exophytic_points(self) -> int:
        """E of R.E.N.A.L.: 1 at least half exophytic, 2 less, 3 endophytic within the error of the outline."""
        return 1 if self.exophytic_share >= 0.5 else 2 if self.exophytic_share > _OUTLINE_ERROR else 3
