"""Regions of the kidney and the errors in them, on shapes that are counted by hand."""

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.types import LabelArray
from study.evidence.regions import REGIONS, RegionErrors, hollow_of, region_errors, regions_of, summed

SPACING_MM = (2.0, 2.0, 2.0)
HILUM, MARGIN = REGIONS.index("hilum"), REGIONS.index("tumor_margin")


def kidney(*, notch: bool = False, tumor: bool = False) -> LabelArray:
    """A block of 30×12×10 voxels, with a notch of 6×4×6 voxels in the middle of a side, and a tumor in another."""
    labels = np.zeros((40, 24, 24), np.uint8)
    labels[5:35, 6:18, 7:17] = 1
    if notch:
        labels[17:23, 10:14, 7:13] = 0
    if tumor:
        labels[25:29, 14:20, 10:14] = 2
    return labels


def name_at(regions: np.ndarray, z: int, y: int, x: int) -> str:
    return REGIONS[regions[z, y, x]]


def test_thirds_of_the_longest_axis_are_the_poles() -> None:
    regions = regions_of(kidney(), SPACING_MM, KIDNEY_TUMOR)
    # Centres from 5 to 34 voxels: the lines are at 14.67 and 24.33.
    assert [name_at(regions, z, 12, 12) for z in (5, 14, 15, 24, 25, 34)] == [
        *("lower_pole", "lower_pole"),
        *("elsewhere", "elsewhere"),
        *("upper_pole", "upper_pole"),
    ]


def test_the_hollow_is_the_notch_and_a_convex_kidney_has_none() -> None:
    body = kidney(notch=True) > 0
    hollow = hollow_of(body, SPACING_MM)
    assert hollow.any() and not (hollow & body).any()
    places = np.argwhere(hollow)
    assert (places.min(axis=0) >= (17, 10, 7)).all() and (places.max(axis=0) <= (22, 13, 12)).all()
    assert not hollow_of(kidney() > 0, SPACING_MM).any()


def test_the_hilum_is_the_hollow_and_what_is_near() -> None:
    regions = regions_of(kidney(notch=True), SPACING_MM, KIDNEY_TUMOR)
    assert name_at(regions, 20, 12, 12) == "hilum"
    assert name_at(regions, 20, 12, 13) == "hilum"  # the kidney's next voxel, 2 mm away
    assert name_at(regions, 20, 12, 15) == "elsewhere"  # 6 mm away


def test_the_margin_of_the_tumor_is_on_both_sides_of_its_surface() -> None:
    regions = regions_of(kidney(tumor=True), SPACING_MM, KIDNEY_TUMOR)
    # The tumor begins at row 14; voxels at most 3 mm from the other side belong to the margin.
    assert [name_at(regions, 27, y, 12) for y in (12, 13, 14)] == ["upper_pole", "tumor_margin", "tumor_margin"]
    assert name_at(regions, 31, 12, 12) == "upper_pole"


def test_every_wrong_voxel_is_in_one_region() -> None:
    truth = kidney(notch=True, tumor=True)
    prediction = np.roll(truth, 1, axis=1)
    prediction[20, 12, 12] = 1  # fills a voxel of the hollow
    found = region_errors(truth, {"net": prediction, "same": truth}, SPACING_MM, KIDNEY_TUMOR)
    voxel_ml = 8 / 1000
    total = sum(found["net", region].error_ml for region in REGIONS)
    assert total == pytest.approx((prediction != truth).sum() * voxel_ml)
    assert sum(found["net", region].region_ml for region in REGIONS) == pytest.approx((truth > 0).sum() * voxel_ml)
    assert found["net", "hilum"].error_ml > 0
    assert all(found["same", region].error_ml == 0 for region in REGIONS)


def test_errors_add_up_over_cases() -> None:
    key = ("net", "hilum")
    assert summed([{key: RegionErrors(2.0, 1.0)}, {key: RegionErrors(3.0, 0.5)}]) == {key: RegionErrors(5.0, 1.5)}
