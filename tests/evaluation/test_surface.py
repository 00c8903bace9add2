import numpy as np
import pytest

from renalnet.errors import InputError
from renalnet.evaluation.surface import bounding_box, diagonal_mm, surface, surface_distances

SPACING = (2.0, 0.5, 0.7)


def point(*voxel, shape=(5, 8, 9)):
    mask = np.zeros(shape, bool)
    mask[voxel] = True
    return mask


def blobs(seed):
    """Return two overlapping blobs of irregular shape."""
    rng = np.random.default_rng(seed)
    grid = np.indices((9, 14, 13)) - rng.uniform(4, 6, 3)[:, None, None, None]
    near = (grid**2).sum(0) + rng.normal(0, 3, (9, 14, 13))
    return near < 14, np.roll(near, 2, axis=1) < 17


@pytest.mark.parametrize(("step", "expected"), [((1, 0, 0), 2.0), ((0, 3, 0), 1.5), ((0, 0, 2), 1.4)])
def test_each_axis_has_its_own_spacing(step, expected):
    truth = point(1, 2, 3)
    pred = point(*np.add((1, 2, 3), step))
    distances = surface_distances(truth, pred, SPACING)
    assert distances.mean_mm == pytest.approx(expected, rel=1e-6)
    assert distances.hd95_mm == pytest.approx(expected, rel=1e-6)


def test_oblique_distance_by_hand():
    distances = surface_distances(point(0, 0, 0), point(1, 3, 2), SPACING)
    assert distances.mean_mm == pytest.approx(np.sqrt(2.0**2 + 1.5**2 + 1.4**2), rel=1e-6)


def test_pixels_are_unit_spacing():
    pixels = surface_distances(point(0, 0, 0), point(2, 3, 6), (1.0, 1.0, 1.0))
    assert pixels.mean_mm == pytest.approx(7.0)


def test_mean_pools_both_surfaces():
    # Truth: one voxel. Prediction: that voxel and one 4 columns of 0.7 mm away. Distances: 0 | 0, 2.8.
    pred = point(1, 1, 1) | point(1, 1, 5)
    distances = surface_distances(point(1, 1, 1), pred, SPACING)
    assert distances.truth_to_pred_mm.tolist() == [0.0]
    assert distances.pred_to_truth_mm == pytest.approx([0.0, 2.8])
    assert distances.mean_mm == pytest.approx(2.8 / 3)
    assert distances.hd95_mm == pytest.approx(0.95 * 2.8)
    assert distances.surface_dice(2.7) == pytest.approx(2 / 3)
    assert distances.surface_dice(2.8) == 1


def test_hd95_is_the_larger_direction():
    line = np.zeros((1, 1, 101), bool)
    line[..., :] = True
    distances = surface_distances(point(0, 0, 0, shape=line.shape), line, (1.0, 1.0, 1.0))
    assert distances.hd95_mm == pytest.approx(95.0)


def test_surface_has_a_face_outside_the_mask_or_the_volume():
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    assert surface(cube).sum() == 5**3 - 3**3
    assert surface(np.ones((4, 5, 6), bool)).sum() == 4 * 5 * 6 - 2 * 3 * 4


def test_a_corner_neighbour_outside_makes_no_surface():
    mask = np.ones((5, 5, 5), bool)
    mask[1, 1, 1] = False
    assert not surface(mask)[2, 2, 2]
    assert surface(mask)[1, 1, 2]


def test_both_empty():
    nothing = np.zeros((3, 4, 5), bool)
    distances = surface_distances(nothing, nothing, SPACING)
    assert (distances.mean_mm, distances.hd95_mm, distances.surface_dice(1.0)) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_costs_the_diagonal(swap):
    masks = [point(1, 1, 1, shape=(3, 4, 12)), np.zeros((3, 4, 12), bool)]
    distances = surface_distances(*(masks[::-1] if swap else masks), (1.0, 1.0, 1.0))
    assert (distances.mean_mm, distances.hd95_mm) == (13.0, 13.0)
    assert distances.surface_dice(1000.0) == 0.0


def test_diagonal_in_mm():
    assert diagonal_mm((3, 8, 5), (2.0, 1.0, 0.0)) == pytest.approx(10.0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_all_pairs(seed):
    truth, pred = blobs(seed)
    a, b = (np.argwhere(surface(mask)) * SPACING for mask in (truth, pred))
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    distances = surface_distances(truth, pred, SPACING)
    np.testing.assert_allclose(distances.truth_to_pred_mm, pairs.min(1), rtol=1e-6)
    np.testing.assert_allclose(distances.pred_to_truth_mm, pairs.min(0), rtol=1e-6)


def test_symmetric():
    truth, pred = blobs(7)
    one = surface_distances(truth, pred, SPACING)
    other = surface_distances(pred, truth, SPACING)
    assert one.mean_mm == pytest.approx(other.mean_mm)
    assert (one.hd95_mm, one.surface_dice(1.0)) == (other.hd95_mm, other.surface_dice(1.0))


def test_identical_masks():
    truth, _ = blobs(3)
    distances = surface_distances(truth, truth, SPACING)
    assert (distances.mean_mm, distances.hd95_mm, distances.surface_dice(0.0)) == (0.0, 0.0, 1.0)


def test_scales_with_spacing():
    once, twice = (surface_distances(*blobs(4), tuple(f * s for s in SPACING)) for f in (1, 2))
    assert twice.mean_mm == pytest.approx(2 * once.mean_mm)
    assert twice.surface_dice(2.0) == once.surface_dice(1.0)


def test_empty_space_around_changes_nothing():
    masks = blobs(5)
    padded = [np.pad(mask, ((4, 0), (1, 7), (3, 3))) for mask in masks]
    inside = [np.pad(mask, 1) for mask in masks]
    assert surface_distances(*padded, SPACING).mean_mm == surface_distances(*inside, SPACING).mean_mm


def test_memory_order_does_not_matter():
    masks = blobs(6)
    turned = [np.asfortranarray(mask) for mask in masks]
    a, b = (surface_distances(*pair, SPACING).mean_mm for pair in (masks, turned))
    assert a == b


def test_bounding_box():
    mask = point(1, 2, 3) | point(3, 2, 7)
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 8))


def test_shapes_must_match():
    with pytest.raises(InputError, match="one grid"):
        surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING)
