"""Labels of an ROI on the grid of its scan."""

import numpy as np
import pytest

from renalnet.data.images.grid import Grid
from renalnet.data.images.volume import Volume, to_source
from renalnet.inference.scan_labels import labels_on_scan
from renalnet.types import FloatArray, LabelArray

TURNED = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0)
"""Index axes that point to the feet, to the left and to the front."""


def line(values: list[float]) -> FloatArray:
    """Probabilities of background and kidney in an ROI of 1×1×n voxels."""
    kidney = np.array(values, np.float32).reshape(1, 1, -1)
    return np.stack([1 - kidney, kidney])


def certain(labels: LabelArray, num_classes: int = 3) -> FloatArray:
    return np.stack([labels == value for value in range(num_classes)]).astype(np.float32)


def test_the_border_is_where_both_labels_are_equally_probable() -> None:
    probability = line([0.9, 0.3])
    roi = Grid.axis_aligned((1, 1, 2), (2.0, 2.0, 2.0))
    # Between the centres at 0 and 2 mm, 0.9 - 0.3 x is above 0.5 up to x = 1.33 mm; the nearest label changes at 1 mm.
    scan = Grid.axis_aligned((1, 1, 9), (2.0, 2.0, 0.25))
    found = labels_on_scan(probability.argmax(axis=0).astype(np.uint8), probability, roi, scan)
    assert found.ravel().tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_a_voxel_that_post_processing_changed_is_certain() -> None:
    probability = line([0.9, 0.9, 0.9])
    roi = Grid.axis_aligned((1, 1, 3), (1.0, 1.0, 1.0))
    scan = Grid.axis_aligned((1, 1, 5), (1.0, 1.0, 0.5))
    changed = np.array([[[1, 1, 0]]], np.uint8)
    # Halfway to the changed voxel, kidney has (0.9 + 0) / 2 and background (0.1 + 1) / 2.
    assert labels_on_scan(changed, probability, roi, scan).ravel().tolist() == [1, 1, 1, 0, 0]
    assert not labels_on_scan(np.zeros_like(changed), probability, roi, scan).any()


@pytest.mark.parametrize("direction", [Grid.axis_aligned((1, 1, 1), (1, 1, 1)).direction, TURNED])
def test_shared_voxels_keep_their_labels(direction: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (5, 6, 7), dtype=np.uint8)
    # Ties and probabilities that say otherwise, too.
    probability = rng.integers(0, 3, (3, *labels.shape)).astype(np.float32) / 2
    roi = Grid.axis_aligned((5, 6, 7), (1.5, 0.7, 0.6), (10.2, -31.1, 4.3))
    along = np.abs(np.array(direction).reshape(3, 3))
    spacing = along.T @ roi.spacing_xyz_mm
    # The first voxel is six voxels outside of the ROI along each axis, so that the scan is larger on all sides.
    middle = np.array(roi.origin_xyz_mm) + 3 * np.array(roi.spacing_xyz_mm)
    origin = middle - np.array(direction).reshape(3, 3) @ (9 * spacing)
    scan = Grid((20, 20, 20), tuple(spacing), tuple(origin), direction)
    found = labels_on_scan(labels, probability, roi, scan)
    assert np.array_equal(found, to_source(Volume(labels, roi), scan).array)
    assert np.bincount(found.ravel(), minlength=3)[1:].tolist() == np.bincount(labels.ravel(), minlength=3)[1:].tolist()


def test_outside_the_roi_is_background() -> None:
    labels = np.full((3, 3, 3), 2, np.uint8)
    roi = Grid.axis_aligned((3, 3, 3), (1.0, 1.0, 1.0))
    apart = Grid.axis_aligned((4, 4, 4), (1.0, 1.0, 1.0), (50.0, 0.0, 0.0))
    assert labels_on_scan(labels, certain(labels), roi, apart).tolist() == np.zeros((4, 4, 4)).tolist()
    beyond = Grid.axis_aligned((3, 3, 6), (1.0, 1.0, 1.0))
    assert labels_on_scan(labels, certain(labels), roi, beyond)[0, 0].tolist() == [2, 2, 2, 0, 0, 0]


def test_a_ball_is_rounder_than_by_the_nearest_label() -> None:
    """Probabilities of voxels of 2 mm that a ball of 9 mm partly fills, on voxels of 0.5 mm."""
    fine = Grid.axis_aligned((48, 48, 48), (0.5, 0.5, 0.5))
    z, y, x = np.indices(fine.shape)
    ball = (z - 23.5) ** 2 + (y - 22.5) ** 2 + (x - 24.5) ** 2 < 18**2
    filled = ball.reshape(12, 4, 12, 4, 12, 4).mean(axis=(1, 3, 5), dtype=np.float32)
    probability = np.stack([1 - filled, filled])
    labels = probability.argmax(axis=0).astype(np.uint8)
    roi = Grid.axis_aligned((12, 12, 12), (2.0, 2.0, 2.0), (0.75, 0.75, 0.75))

    def dice(found: LabelArray) -> float:
        return float(2 * (ball & (found > 0)).sum() / (ball.sum() + (found > 0).sum()))

    nearest = dice(to_source(Volume(labels, roi), fine).array)
    assert nearest < 0.95
    assert dice(labels_on_scan(labels, probability, roi, fine)) > 0.975


def test_parts_of_a_turned_grid_keep_their_place() -> None:
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), TURNED)
    part = grid.part((slice(2, 5), slice(1, 2), slice(0, 3)))
    assert part.size_xyz == (3, 1, 3)
    # One step along y (2 mm to the left) and two along z (6 mm to the front).
    assert part.origin_xyz_mm == (9.0, 2.0, 9.0)
    # One voxel more on each side, as far as there is one.
    assert grid.region_of(part) == (slice(0, 6), slice(0, 4), slice(0, 4))
