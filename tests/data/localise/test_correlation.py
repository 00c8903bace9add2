"""Correlation at every shift, compared with NumPy at single shifts."""

import numpy as np
import pytest

from renalnet.data.localise.correlation import correlations, cut_or_pad

SCAN = np.random.default_rng(0).normal(50, 30, (9, 10, 11)).astype(np.float32)


def test_a_part_is_found_where_it_was_cut() -> None:
    found = correlations(SCAN, SCAN[2:6, 3:8, 4:10], 1.0)
    assert found.shape == (6, 6, 6)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 3, 4)
    assert found.max() == pytest.approx(1.0)


def test_every_place_holds_pearsons_correlation() -> None:
    template = np.random.default_rng(1).normal(0, 1, (4, 5, 6)).astype(np.float32)
    found = correlations(SCAN, template, 1.0)
    for z, y, x in ((0, 0, 0), (5, 5, 5), (1, 4, 2)):
        part = SCAN[z : z + 4, y : y + 5, x : x + 6]
        assert found[z, y, x] == pytest.approx(np.corrcoef(part.ravel(), template.ravel())[0, 1], abs=1e-9)


def test_voxels_that_are_nan_are_ignored() -> None:
    scan = SCAN.copy()
    template = SCAN[2:6, 3:8, 4:10].copy()
    scan[2:4] = np.nan
    template[:, 0] = np.nan
    found = correlations(scan, template, 0.4)
    assert found[2, 3, 4] == pytest.approx(1.0)


def test_a_shift_and_a_scale_of_intensities_change_nothing() -> None:
    template = SCAN[2:6, 3:8, 4:10]
    np.testing.assert_allclose(correlations(SCAN, 3 * template + 7, 1.0), correlations(SCAN, template, 1.0), atol=1e-6)


def test_too_little_overlap_and_constant_scans_correlate_with_nothing() -> None:
    scan = np.full((8, 8, 8), np.nan, np.float32)
    scan[:2] = SCAN[:2, :8, :8]
    found = correlations(scan, SCAN[:4, :4, :4], 0.5)
    assert found[0].any()
    assert not found[1:].any()
    assert not correlations(np.zeros((8, 8, 8), np.float32), SCAN[:4, :4, :4], 0.5).any()


def test_boxes_may_extend_beyond_the_array() -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert cut_or_pad(array, (1, 0, 1), (1, 2, 1), -1.0).ravel().tolist() == [5, 7]
    padded = cut_or_pad(array, (-1, 0, 0), (2, 2, 3), -1.0)
    assert (padded[0] == -1).all()
    assert padded[1].ravel().tolist() == [0, 1, -1, 2, 3, -1]
    assert (cut_or_pad(array, (5, 5, 5), (2, 2, 2), -1.0) == -1).all()
