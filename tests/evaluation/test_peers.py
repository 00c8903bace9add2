"""Measures of fifty pairs of real label maps equal those of MONAI and SimpleITK where the definitions agree."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.volume import read_volume
from renalnet.evaluation.surface import SurfacePair
from renalnet.evaluation.table import measure
from renalnet.types import LabelArray, MaskArray, Triple

SPACING: Triple = (2.0, 1.5, 1.5)
"""Its squares are exact in single precision, which SimpleITK's distance maps use."""
TOLERANCE_MM = {"kidney": 1.0331, "tumor": 1.1498, "kidney_and_mass": 1.0331}
"""Of the KiTS challenge."""
NUM_PAIRS = 50
OF_MONAI_ITSELF = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
CLASSES: dict[str, Callable[[LabelArray], MaskArray]] = {
    "kidney": lambda labels: labels == 1,
    "tumor": lambda labels: labels == 2,
    "kidney_and_mass": lambda labels: labels > 0,
}


@pytest.fixture(scope="module")
def pairs(real_data: Path) -> list[tuple[LabelArray, LabelArray]]:
    """Return label maps with flawed predictions, thinned out in all directions so that a test takes seconds."""
    paths = sorted((real_data / "kits19_rois" / "train").glob("*.nii.gz"))[:NUM_PAIRS]
    maps = [read_volume(path).array[::2, ::3, ::3] for path in paths]
    return [(truth, spoilt(truth, maps[number - 1], number)) for number, truth in enumerate(maps)]


def spoilt(truth: LabelArray, other: LabelArray, number: int) -> LabelArray:
    """Return a flawed copy: shifted, another case's, with a grown tumor, or with a part cut off."""
    pred = truth.copy()
    match number % 4:
        case 0:
            pred = np.roll(truth, (1, -2, 1), axis=(0, 1, 2))
        case 1:
            depth = min(len(truth), len(other))
            pred = np.zeros_like(truth)
            pred[:depth] = other[:depth]
        case 2:
            for axis in range(3):
                pred[np.roll(truth, 1, axis) == 2] = 2
        case _:
            pred[: len(truth) // 2] = 0
            pred[len(truth) // 2, 3, 3:5] = 1
    return pred


def compared(pairs: list[tuple[LabelArray, LabelArray]]) -> Iterator[tuple[str, MaskArray, MaskArray, dict]]:
    """Yield the classes that both maps have, with our measures."""
    for truth, pred in pairs:
        rows = {row.label: asdict(row) for row in measure(truth, pred, SPACING, KIDNEY_TUMOR)}
        for name, mask_of in CLASSES.items():
            masks = mask_of(truth), mask_of(pred)
            if all(mask.any() for mask in masks):
                yield name, *masks, rows[name]


@pytest.mark.slow
@OF_MONAI_ITSELF
def test_equal_to_monai(pairs: list[tuple[LabelArray, LabelArray]]) -> None:
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    num_compared = 0
    for name, truth, pred, row in compared(pairs):
        y, y_pred = (torch.from_numpy(mask)[None, None].float() for mask in (truth, pred))
        always = {"include_background": True}
        in_mm = {**always, "spacing": SPACING}
        distances = monai.utils.get_edge_surface_distance(y_pred[0, 0], y[0, 0], symmetric=True, spacing=SPACING)[1]
        asd = monai.compute_average_surface_distance(y_pred, y, symmetric=True, **in_mm)
        hd95 = monai.compute_hausdorff_distance(y_pred, y, percentile=95, **in_mm)
        share = monai.compute_surface_dice(y_pred, y, [TOLERANCE_MM[name]], **in_mm)
        pixels = monai.compute_average_surface_distance(y_pred, y, symmetric=True, **always)
        assert row["dice"] == pytest.approx(float(monai.compute_dice(y_pred, y)), abs=1e-6)
        assert row["surface_distance_mm"] == pytest.approx(float(torch.cat(distances).double().mean()), rel=1e-6)
        assert row["surface_distance_mm"] == pytest.approx(float(asd), rel=1e-5)  # it averages in single precision
        assert row["surface_distance_px"] == pytest.approx(float(pixels), rel=1e-5)
        largest = max(np.percentile(directed.double(), 95) for directed in distances)
        assert row["hd95_mm"] == pytest.approx(largest, rel=1e-6)
        assert row["hd95_mm"] == pytest.approx(float(hd95), rel=1e-5)  # its quantile is in single precision
        assert row["surface_dice"] == pytest.approx(float(share), abs=1e-6)
        num_compared += 1
    assert num_compared > 2.5 * NUM_PAIRS


@pytest.mark.slow
def test_equal_to_simpleitk(pairs: list[tuple[LabelArray, LabelArray]]) -> None:
    """Overlap by its filter, distances by its contours and distance maps. A frame is added, where it has no surface."""
    import SimpleITK as sitk

    overlap = sitk.LabelOverlapMeasuresImageFilter()
    for _, truth, pred, row in compared(pairs):
        images = [sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8)) for mask in (truth, pred)]
        for image in images:
            image.SetSpacing(SPACING[::-1])
        overlap.Execute(*images)
        assert row["dice"] == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-6)
        contours = [sitk.LabelContour(image) for image in images]
        maps = [
            sitk.GetArrayFromImage(sitk.Abs(sitk.SignedMaurerDistanceMap(contour, False, False, True)))
            for contour in contours
        ]
        on = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
        directed = [maps[1][on[0]].astype(np.float64), maps[0][on[1]].astype(np.float64)]
        assert row["surface_distance_mm"] == pytest.approx(np.concatenate(directed).mean(), rel=1e-6)
        assert row["hd95_mm"] == pytest.approx(max(np.percentile(each, 95) for each in directed), rel=1e-6)


@pytest.mark.slow
@OF_MONAI_ITSELF
def test_a_surface_dice_by_area_is_another_number(pairs: list[tuple[LabelArray, LabelArray]]) -> None:
    """DeepMind's measure weights the surface between voxel centres by its area; MONAI can compute it too."""
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    truth, pred = (mask == 2 for mask in pairs[0])
    y, y_pred = (torch.from_numpy(mask)[None, None].float() for mask in (truth, pred))
    options = {"include_background": True, "spacing": SPACING}
    by_area = float(monai.compute_surface_dice(y_pred, y, [2.5], use_subvoxels=True, **options))
    ours = SurfacePair.of(truth, pred).distances(SPACING).surface_dice(2.5)
    assert 0.01 < abs(by_area - ours) < 0.2
