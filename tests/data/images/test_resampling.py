"""Resampling from one axis-aligned grid to another."""

import numpy as np
import pytest

from renalnet.data.images.resampling import block_means, covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume

FINE = Grid.axis_aligned((8, 8, 8), (1.0, 1.0, 1.0))


def test_covering_grid_keeps_the_outer_edges() -> None:
    coarse = covering_grid(FINE, (2.0, 4.0, 1.0))
    assert coarse.shape == (4, 2, 8)
    assert coarse.origin_mm == (0.5, 1.5, 0.0)  # the outer edge stays at -0.5
    assert covering_grid(FINE, None) is FINE
    assert covering_grid(FINE, (1.0, 1.0, 1.0)) is FINE


def test_block_means_averages_blocks_and_repeats_the_edge() -> None:
    line = Volume(np.array([[[1, 3, 5, 7, 10]]], np.int16), Grid.axis_aligned((1, 1, 5), (1.0, 1.0, 1.0)))
    small = block_means(line, (1, 1, 2))
    assert small.array.ravel().tolist() == [2.0, 6.0, 10.0]
    assert small.grid.origin_mm == (0.0, 0.0, 0.5)


def test_voxels_on_a_shared_lattice_are_copied_and_the_rest_filled() -> None:
    image = Volume(np.random.default_rng(0).integers(0, 999, FINE.shape).astype(np.int16), FINE)
    window = Grid.axis_aligned((3, 4, 5), (1.0, 1.0, 1.0), (6.0, -1.0, 2.0))
    cut = regrid_image(image, window, -1024).array
    np.testing.assert_array_equal(cut[:2, 1:], image.array[6:, :3, 2:7])
    assert (cut[2] == -1024).all()
    assert (cut[:, 0] == -1024).all()


def test_a_fine_checkerboard_becomes_its_mean_not_an_alias() -> None:
    board = (np.indices(FINE.shape).sum(axis=0) % 2 * 100).astype(np.int16)
    coarse = regrid_image(Volume(board, FINE), covering_grid(FINE, (2.0, 2.0, 2.0)), -1024)
    assert (coarse.array == 50).all()
    assert coarse.array.dtype == np.int16


def test_linear_intensities_stay_linear_between_voxels() -> None:
    ramp = Volume(np.broadcast_to(np.arange(8, dtype=np.int16) * 10, FINE.shape), FINE)
    finer = regrid_image(ramp, Grid.axis_aligned((8, 8, 13), (1.0, 1.0, 0.5), (0.0, 0.0, 0.5)), -1024)
    np.testing.assert_array_equal(finer.array[4, 4], np.arange(5, 70, 5))


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.3, 2.0])
def test_labels_keep_their_volume_and_their_values(spacing: float) -> None:
    grid = Grid.axis_aligned((24, 24, 24), (1.0, 1.0, 1.0))
    label = np.zeros(grid.shape, np.uint8)
    label[4:20, 4:20, 4:12] = 1
    label[4:20, 4:20, 12:20] = 2
    moved = regrid_label(Volume(label, grid), covering_grid(grid, (spacing,) * 3))
    for value in (1, 2):
        assert (moved.array == value).sum() * spacing**3 == pytest.approx(2048, rel=0.12)
    # An average of labels would create class 1 at the face between background and tumor.
    middle = moved.array.shape[0] // 2
    assert set(np.unique(moved.array[middle, middle])) == {0, 1, 2}


def test_a_window_beside_the_volume_is_all_fill() -> None:
    far = Grid.axis_aligned((2, 2, 2), (1.5, 1.5, 1.5), (100.0, 0.0, 0.0))
    assert (regrid_image(Volume(np.ones(FINE.shape, np.int16), FINE), far, -1024).array == -1024).all()
    assert not regrid_label(Volume(np.ones(FINE.shape, np.uint8), FINE), far).array.any()
