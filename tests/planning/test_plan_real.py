"""Planning sheets of real label maps. Their true measures are unknown, so only relations that must hold are tested."""

from pathlib import Path

import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.mask_files import read_mask
from renalnet.planning import Sheet, find_kidneys, measure_kidney
from renalnet.planning.extent import largest_diameter_mm, voxel_centres_mm

THIN_TUMORS = ("case_00050", "case_00132", "case_00155", "case_00158")
"""Small tumors with protrusions, whose diameters smoothing reduces most."""


def sheets_of(path: Path) -> list[Sheet]:
    mask = read_mask(path, KIDNEY_TUMOR)
    return [measure_kidney(kidney) for kidney in find_kidneys(mask.array, mask.grid.spacing_mm, KIDNEY_TUMOR)]


@pytest.mark.slow
@pytest.mark.parametrize("case", THIN_TUMORS)
def test_measures_of_a_real_tumor_agree_with_each_other(real_data, case):
    path = real_data / "kits19_rois" / "test" / f"{case}.nii.gz"
    (sheet,) = sheets_of(path)
    tumor = sheet.tumor
    assert tumor is not None
    assert tumor.diameter_axial_mm <= tumor.diameter_3d_mm
    assert 0 < tumor.contact_cm2 <= tumor.surface_cm2
    assert 0 <= tumor.exophytic_share <= 1
    assert tumor.volume_ml <= sheet.tumor_ml
    assert sheet.remaining_ml < sheet.kidney_ml
    if sheet.num_tumors == 1:
        mask = read_mask(path, KIDNEY_TUMOR)
        assert tumor.diameter_3d_mm >= largest_diameter_mm(voxel_centres_mm(mask.array == 2, mask.grid.spacing_mm))


@pytest.mark.slow
def test_thick_slices_give_the_diameter_of_thin_ones(real_data):
    """The same case at 5 × 0.82 × 0.82 mm and, resampled, at 1 × 0.65 × 0.65 mm."""
    right, left = sheets_of(real_data / "kits19_raw" / "case_00021_segmentation.nii.gz")
    (resampled,) = sheets_of(real_data / "kits19_rois" / "test" / "case_00021.nii.gz")
    assert right.tumor is None and left.tumor is not None and resampled.tumor is not None
    assert left.tumor.diameter_3d_mm == pytest.approx(resampled.tumor.diameter_3d_mm, rel=0.07)
    assert left.tumor.radius_points == resampled.tumor.radius_points
