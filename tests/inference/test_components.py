import numpy as np
from support.label_sets import ARTERY, CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23, ComponentsConfig
from renalnet.inference.components import keep_largest

SPACING = (2.0, 1.0, 0.5)
"""The volume of a voxel is one microlitre."""


def largest_component(labels, **config):
    return keep_largest(labels, SPACING, ComponentsConfig(**config), KIDNEY_TUMOR)


def empty(shape=(6, 8, 8)):
    return np.zeros(shape, np.uint8)


def test_keeps_the_largest_and_nothing_else():
    labels = empty()
    labels[1:4, 1:4, 1:4] = 1
    labels[5, 6, 6] = 1
    kept = largest_component(labels)
    assert kept.sum() == 27
    assert kept[5, 6, 6] == 0
    assert kept.dtype == np.uint8


def test_kidney_and_tumor_that_touch_are_one():
    labels = empty()
    labels[0, 0, 0:4] = 1
    labels[0, 0, 4:6] = 2
    labels[4, 4, 0:5] = 2
    kept = largest_component(labels)
    np.testing.assert_array_equal(kept[0, 0, :6], [1, 1, 1, 1, 2, 2])
    assert not kept[4].any()


def test_kidney_tumor_and_cyst_that_touch_are_one():
    """The cyst joins the two pieces of kidney. The larger piece of tumor elsewhere goes."""
    labels = empty()
    labels[0, 0] = [1, 1, CYST, CYST, 1, 2, 2, 0]
    labels[4, 4, 0:6] = 2
    kept = keep_largest(labels, SPACING, ComponentsConfig(), KITS23)
    np.testing.assert_array_equal(kept[0], labels[0])
    assert not kept[4].any()


def test_vessels_stay_and_connect_nothing():
    """The artery joins two pieces of kidney and is larger than both. The vein lies alone."""
    labels = empty()
    labels[0, 0] = [1, 1, 1, ARTERY, ARTERY, ARTERY, ARTERY, CYST]
    labels[4, 4] = VEIN
    kept = keep_largest(labels, SPACING, ComponentsConfig(), VESSELS)
    np.testing.assert_array_equal(kept[0, 0], [1, 1, 1, ARTERY, ARTERY, ARTERY, ARTERY, 0])
    np.testing.assert_array_equal(kept[1:], labels[1:])
    too_small = keep_largest(labels, SPACING, ComponentsConfig(min_volume_ml=1.0), VESSELS)
    np.testing.assert_array_equal(too_small, np.where(labels >= ARTERY, labels, 0))


def test_only_small_pieces_of_tumor_become_kidney():
    labels = empty()
    labels[1:4, 1:7, 1:7] = 1
    labels[2, 2, 2] = 2
    labels[2, 4, 4] = CYST
    kept = keep_largest(labels, SPACING, ComponentsConfig(min_tumor_ml=0.002), KITS23)
    assert (kept[2, 2, 2], kept[2, 4, 4]) == (1, CYST)


def test_edges_connect_and_corners_do_not():
    labels = empty()
    labels[0, 0, 0] = labels[0, 1, 1] = labels[1, 2, 1] = 1  # a chain over edges
    labels[2, 3, 2] = 1  # meets the chain at a corner
    kept = largest_component(labels)
    assert kept.sum() == 3
    assert kept[2, 3, 2] == 0


def test_of_equal_components_the_first_in_order_stays():
    for flip in (slice(None), slice(None, None, -1)):
        labels = empty()
        labels[0, 0, 7] = labels[0, 7, 0] = labels[5, 0, 0] = 1
        labels = labels[flip, flip, flip]
        kept = largest_component(labels)
        assert np.flatnonzero(kept).tolist() == np.flatnonzero(labels)[:1].tolist()
        np.testing.assert_array_equal(kept, largest_component(np.asfortranarray(labels)))


def test_empty_stays_empty_and_is_a_copy():
    labels = empty()
    kept = largest_component(labels)
    assert not kept.any()
    assert kept is not labels


def test_applied_twice_is_applied_once_and_the_input_is_left():
    labels = np.random.default_rng(0).integers(0, 12, (12, 12, 12)).astype(np.uint8)
    labels[labels > 2] = 0
    before = labels.copy()
    once = largest_component(labels)
    np.testing.assert_array_equal(largest_component(once), once)
    np.testing.assert_array_equal(labels, before)
    assert ((once == labels) | (once == 0)).all()


def test_a_component_that_is_too_small_is_no_kidney():
    labels = empty()
    labels[1:4, 1:4, 1:4] = 1
    assert largest_component(labels, min_volume_ml=0.027).sum() == 27
    assert not largest_component(labels, min_volume_ml=0.028).any()


def test_small_pieces_of_tumor_become_kidney():
    labels = empty()
    labels[1:4, 1:7, 1:7] = 1
    labels[2, 2, 2:5] = 2  # three voxels, and one that they meet at an edge
    labels[3, 2, 5] = 2
    labels[1, 6, 6] = 2
    kept = largest_component(labels, min_tumor_ml=0.004)
    assert [int((kept == label).sum()) for label in (1, 2)] == [3 * 36 - 4, 4]
    assert kept[1, 6, 6] == 1
    assert not (largest_component(labels, min_tumor_ml=0.005) == 2).any()


def test_switched_off_it_changes_nothing():
    labels = empty()
    labels[0, 0, 0] = labels[4, 4, 4] = 2
    kept = largest_component(labels, enabled=False, min_volume_ml=1.0, min_tumor_ml=1.0)
    np.testing.assert_array_equal(kept, labels)
    assert kept is not labels
