"""Scores and forecasts against examples that are worked out by hand from the definitions of the cited papers."""

from dataclasses import replace

import pytest

from renalnet.errors import InputError
from renalnet.planning import Polar, Sheet, Tumor
from renalnet.planning.function import functions_of, require_gfr
from renalnet.planning.scores import Span, nearness_points, padua_sum, renal_sum, require_nearness

BEYOND = Polar(beyond_upper=1.0, beyond_lower=0.0, to_upper_mm=3.0, to_lower_mm=40.0)
ACROSS = Polar(beyond_upper=0.6, beyond_lower=0.0, to_upper_mm=0.0, to_lower_mm=20.0)
BETWEEN = Polar(beyond_upper=0.1, beyond_lower=0.0, to_upper_mm=0.0, to_lower_mm=10.0)
MIDLINE = replace(ACROSS, crosses_middle=True)
SMALL = Tumor(
    volume_ml=14.0,
    diameter_3d_mm=30.0,
    diameter_axial_mm=29.0,
    surface_cm2=28.0,
    contact_cm2=9.0,
    exophytic_share=0.6,
    polar=BEYOND,
    behind_mm=10.0,
    c_index=3.0,
    medial_mm=-12.0,
)
"""A tumor of 3 cm, mostly exophytic, on the upper pole and the lateral rim."""
LARGE = replace(SMALL, diameter_3d_mm=80.0, exophytic_share=0.0, polar=BETWEEN, medial_mm=8.0)
"""A tumor of 8 cm, endophytic, between the polar lines and on the medial rim."""


@pytest.mark.parametrize(("nearness_mm", "points"), [(9, 1), (7, 1), (6.9, 2), (4.1, 2), (4, 3), (0, 3), (None, None)])
def test_nearness_by_kutikov_and_uzzo(nearness_mm: float | None, points: int | None) -> None:
    assert nearness_points(nearness_mm) == points


@pytest.mark.parametrize(
    ("tumor", "nearness_mm", "expected"),
    [
        (SMALL, 8.0, Span(4, 4)),  # 1 + 1 + 1 + 1
        (SMALL, None, Span(4, 6)),
        (replace(SMALL, diameter_3d_mm=55.0, exophytic_share=0.3, polar=ACROSS), 5.0, Span(8, 8)),  # 2 + 2 + 2 + 2
        (replace(SMALL, polar=ACROSS), 8.0, Span(5, 5)),  # 1 + 1 + 1 + 2
        (replace(SMALL, polar=MIDLINE), 8.0, Span(6, 6)),  # 1 + 1 + 1 + 3: across the axial midline
        (LARGE, 2.0, Span(12, 12)),  # 3 + 3 + 3 + 3
        (LARGE, None, Span(10, 12)),
    ],
)
def test_renal_sums(tumor: Tumor, nearness_mm: float | None, expected: Span) -> None:
    assert renal_sum(tumor, nearness_mm) == expected


@pytest.mark.parametrize(
    ("tumor", "nearness_mm", "expected"),
    [
        # Location, exophytic rate, rim, sinus, collecting system, size.
        (SMALL, 8.0, Span(6, 6)),  # 1 + 1 + 1 + 1 + 1 + 1
        (SMALL, None, Span(6, 8)),  # sinus and collecting system 1 or 2 each
        (replace(SMALL, medial_mm=None), 8.0, Span(6, 7)),
        (LARGE, 0.0, Span(13, 14)),  # 2 + 3 + 2 + (2 + 1, or 2 + 2) + 3
        (LARGE, 3.0, Span(12, 12)),  # 2 + 3 + 2 + 1 + 1 + 3
        (replace(SMALL, diameter_3d_mm=70.0), 8.0, Span(7, 7)),  # 4.1 to 7 cm: 2, unlike R of R.E.N.A.L.
        (replace(SMALL, polar=ACROSS), 8.0, Span(6, 6)),
        (replace(SMALL, polar=MIDLINE), 8.0, Span(6, 6)),  # polar: half of it is beyond a line
    ],
)
def test_padua_sums(tumor: Tumor, nearness_mm: float | None, expected: Span) -> None:
    assert padua_sum(tumor, nearness_mm) == expected


def sheet(side: str, kidney_ml: float, remaining_ml: float, tumor: Tumor | None) -> Sheet:
    return Sheet(side, kidney_ml, 110.0, 14.0, int(tumor is not None), remaining_ml, 5.0, tumor, {}, {})


def test_the_split_and_the_forecast_by_hand() -> None:
    """A right kidney of 120 ml, of which 90 ml remain, and a left one of 180 ml; the GFR is 100."""
    right, left = functions_of([sheet("right", 120, 90, SMALL), sheet("left", 180, 180, None)], 100.0)
    assert right is not None and left is not None
    assert (right.split_share, left.split_share) == pytest.approx((0.4, 0.6))
    assert right.gfr_ml_min == pytest.approx(40)
    assert (right.gfr_radical_low, right.gfr_radical_high) == pytest.approx((60, 74.4))  # 60 * 1.24
    assert right.gfr_partial_low == pytest.approx(60 + 30 * 0.756 / 0.82)
    assert right.gfr_partial_high == pytest.approx(60 * 1.023 + 30)
    assert left.gfr_radical_low == pytest.approx(40) and left.gfr_partial_low is None


def test_the_forecast_holds_the_values_of_its_sources() -> None:
    """Takagi et al.: 32.2 % lost after radical nephrectomy, where the removed kidney had 44 %: 0.56 * 1.211 = 0.678.

    The published forecast of 293 patients: 1.24 times the other kidney, and 89 % after partial nephrectomy.

    After partial nephrectomy of 18 % of the parenchyma, 9.6 % are lost of two kidneys of about equal function.
    """
    removed, _ = functions_of([sheet("right", 44, 44, SMALL), sheet("left", 56, 56, None)], 100.0)
    assert removed is not None
    assert removed.gfr_radical_low is not None and removed.gfr_radical_high is not None
    assert removed.gfr_radical_low < 100 - 32.2 < removed.gfr_radical_high
    assert removed.gfr_radical_high == pytest.approx(1.24 * 56)
    operated, _ = functions_of([sheet("right", 100, 82, SMALL), sheet("left", 100, 100, None)], 100.0)
    assert operated is not None and operated.gfr_partial_low is not None and operated.gfr_partial_high is not None
    assert operated.gfr_partial_low < 89 < 100 - 9.6 < operated.gfr_partial_high


def test_one_kidney_has_no_split() -> None:
    assert functions_of([sheet("kidney", 120, 90, SMALL)], 80.0) == [None]
    (right, _) = functions_of([sheet("right", 120, 90, SMALL), sheet("left", 180, 180, None)])
    assert right is not None and right.gfr_radical_low is None


def test_impossible_values_are_refused() -> None:
    for gfr in (0.0, -5.0, 300.0, float("nan")):
        with pytest.raises(InputError, match="must be above 0 and at most 250"):
            require_gfr(gfr)
    for nearness_mm in (-0.1, 201.0, float("nan")):
        with pytest.raises(InputError, match="must be 0 to 200"):
            require_nearness(nearness_mm)
