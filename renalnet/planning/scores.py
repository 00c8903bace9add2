"""Sums of the R.E.N.A.L. and the PADUA score, or the range that they can take where an item is not known.

- R.E.N.A.L. (Kutikov and Uzzo, Journal of Urology, 2009): R, E, N and L, 1 to 3 points each; the sum is 4 to 12. The
  limits are those of the table that PubMed Central article 3124570 quotes from it.
- PADUA (Ficarra et al., European Urology 56, 2009, pages 786 to 793): longitudinal location, exophytic rate, renal rim,
  renal sinus, collecting system and size; the sum is 6 to 14. The abstract names the items. The points of each are
  reconstructed.

No label shows the collecting system and the sinus. The distance of the tumor from them can be given by hand. Without
it, a sum is the range over all distances. In PADUA, a tumor at a distance from both involves neither, and one that
reaches them (0 mm) involves one or both (reconstruction).
"""

from dataclasses import dataclass
from typing import Final

from renalnet.errors import InputError
from renalnet.planning.tumor import Tumor

_MOST_MM: Final = 200.0
"""Distances above this one are refused: no kidney is as large."""


@dataclass(frozen=True)
class Span:
    """The least and the largest sum that a score can have."""

    low: int
    high: int

    def __add__(self, other: "Span") -> "Span":
        """Return the span of the sum of both."""
        return Span(self.low + other.low, self.high + other.high)


def require_nearness(nearness_mm: float) -> None:
    """Raise InputError for a distance from the collecting system that no tumor can have."""
    if not 0 <= nearness_mm <= _MOST_MM:
        raise InputError(
            f"nearness {nearness_mm} mm: must be 0 to {_MOST_MM:g}; measure from the tumor's edge to the collecting "
            "system or sinus"
        )


def nearness_points(nearness_mm: float | None) -> int | None:
    """Return N of R.E.N.A.L.: 1 from 7 mm, 2 between 4 and 7 mm, 3 up to 4 mm; None where it was not given."""
    if nearness_mm is None:
        return None
    return 1 if nearness_mm >= 7 else 2 if nearness_mm > 4 else 3


def renal_sum(tumor: Tumor, nearness_mm: float | None) -> Span:
    """Return the sum of R, E, N and L, 4 to 12."""
    return (
        _exactly(tumor.radius_points)
        + _exactly(tumor.exophytic_points)
        + _between(nearness_points(nearness_mm), 1, 3)
        + _exactly(tumor.polar.points)
    )


def padua_sum(tumor: Tumor, nearness_mm: float | None) -> Span:
    """Return the sum of the six items of PADUA, 6 to 14.

    The location is middle (2) if more than half of the tumor is between the polar lines, else polar (1). The rim is
    medial (2) if the tumor's centre is nearer to the midline than the kidney's, else lateral (1); it is not known where
    the side of the kidney is not.
    """
    return (
        _exactly(2 if tumor.polar.is_between else 1)
        + _exactly(tumor.exophytic_points)
        + _between(tumor.rim_points, 1, 2)
        + _sinus_and_system(nearness_mm)
        + _exactly(_size_points(tumor.diameter_3d_mm))
    )


def _sinus_and_system(nearness_mm: float | None) -> Span:
    """Return the points of renal sinus and collecting system together: each is 1, or 2 if the tumor involves it."""
    if nearness_mm is None:
        return Span(2, 4)
    return Span(2, 2) if nearness_mm > 0 else Span(3, 4)


def _size_points(diameter_mm: float) -> int:
    return 1 if diameter_mm <= 40 else 2 if diameter_mm <= 70 else 3


def _exactly(points: int) -> Span:
    return Span(points, points)


def _between(points: int | None, low: int, high: int) -> Span:
    return Span(low, high) if points is None else _exactly(points)
