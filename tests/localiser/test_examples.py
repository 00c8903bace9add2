"""Training examples of the localiser, and its training on balls."""

import numpy as np
import pytest
import torch
from support.coarse_scans import a_scan

from renalnet.data.images.volume import Grid, Volume
from renalnet.localiser import examples
from renalnet.localiser.coarse_scan import coarse_grid, coarse_scan, scaled
from renalnet.localiser.examples import EXAMPLE_SHAPE, MIN_SLICES, draw_batch, draw_example


def test_scaling_by_hand() -> None:
    assert scaled(np.array([-1000, -250, 150, 550, 3000], np.int16)).tolist() == [-1, -1, 0, 1, 1]


def test_the_coarse_grid_covers_the_field_of_view() -> None:
    grid = coarse_grid(Grid.axis_aligned((100, 200, 200), (3.0, 1.5, 1.5)))
    assert grid.shape == (50, 50, 50)
    assert grid.spacing_mm == (6.0, 6.0, 6.0)


def test_a_coarse_scan_keeps_the_sides() -> None:
    shape = (60, 60, 120)
    body = np.zeros(shape, np.uint8)
    body[20:40, 20:40, 10:30] = 1
    body[20:40, 20:40, 90:110] = 1
    grid = Grid.axis_aligned(shape, (3.0, 3.0, 3.0))
    scan = coarse_scan("case", Volume(np.zeros(shape, np.int16), grid), Volume(body, grid))
    assert set(np.unique(scan.sides.array[:, :, :30])) == {0, 2}
    assert set(np.unique(scan.sides.array[:, :, 30:])) == {0, 1}


def test_examples_have_one_shape_and_are_drawn_by_the_seed() -> None:
    first, again, other = (draw_batch([a_scan()], 2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first[0].shape == (2, 1, *EXAMPLE_SHAPE) and first[1].shape == (2, *EXAMPLE_SHAPE)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].min() >= -1 and first[0].max() <= 1


def test_labels_move_with_the_image() -> None:
    generator = np.random.default_rng(0)
    for _ in range(12):
        image, labels = draw_example(a_scan(), generator)
        if not labels.any():
            continue
        inside = image[0][labels > 0].mean()
        outside = image[0][(labels == 0) & (image[0] > -0.95)].mean()
        assert inside > outside + 0.3


def test_left_stays_left_of_right() -> None:
    generator = np.random.default_rng(3)
    seen = 0
    for _ in range(12):
        _, labels = draw_example(a_scan(), generator)
        left, right = (torch.nonzero(labels == side)[:, 2].float() for side in (1, 2))
        if len(left) and len(right):
            seen += 1
            assert left.mean() > right.mean()
    assert seen >= 4


def test_a_disoriented_scan_has_no_kidney(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "DISORIENTED_SHARE", 1.0)
    images, labels = draw_batch([a_scan()], 8, np.random.default_rng(0))
    assert not labels.any()
    assert images.shape == (8, 1, *EXAMPLE_SHAPE)


def test_thin_slabs_with_a_kidney_are_frequent() -> None:
    """A scan may have few slices; at 5 mm, eleven of them are nine voxels of 6 mm."""
    labels = torch.zeros(EXAMPLE_SHAPE, dtype=torch.int64)
    labels[20:30, 20:30, 20:30] = 1
    image = torch.zeros(1, *EXAMPLE_SHAPE)
    generator = np.random.default_rng(0)
    thin = 0
    for _ in range(400):
        cut, rest = examples._cut(image, labels, generator)
        slices = torch.nonzero((cut[0] > -1).any(dim=2).any(dim=1))[:, 0]
        assert MIN_SLICES <= len(slices) <= EXAMPLE_SHAPE[0] and slices[-1] - slices[0] == len(slices) - 1
        thin += len(slices) < 16 and bool(rest.any())
    assert 40 < thin < 110  # half of the examples are cut, a third of these to so few slices, most with a kidney
