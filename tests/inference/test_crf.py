import sys

import numpy as np
import pytest
from scipy import ndimage
from support.label_sets import CYST

from renalnet.config import CrfConfig
from renalnet.errors import ConfigError
from renalnet.inference import crf
from renalnet.inference.crf import refine

SPACING = (3.0, 1.5, 1.5)
STRONG = CrfConfig(smooth_weight=0.5, bilateral_weight=3.0)


@pytest.fixture(autouse=True, scope="module")
def _library():
    pytest.importorskip("pydensecrf", reason="the dense CRF is an optional step")


def ball(shape, centre, radius_mm):
    grid = np.indices(shape)
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True)) <= radius_mm**2


def scene(shape=(16, 28, 28), seed=0):
    """Return a kidney of 190 HU with a small tumor of 60 HU in fat of -90 HU."""
    labels = np.zeros(shape, np.uint8)
    labels[ball(shape, (8, 14, 14), 15)] = 1
    labels[ball(shape, (8, 14, 20), 5)] = 2
    noise = np.random.default_rng(seed).normal(0, 14, shape)
    return labels, (np.array([-90, 190, 60])[labels] + noise).astype(np.int16)


def sure(labels, share=0.7, num_classes=3):
    """Return probabilities of `share` for these labels; the other classes divide the rest."""
    rest = np.float32((1 - share) / (num_classes - 1))
    return np.where(np.arange(num_classes)[:, None, None, None] == labels, np.float32(share), rest)


@pytest.mark.parametrize("config", [CrfConfig(iterations=0), CrfConfig(smooth_weight=0, bilateral_weight=0)])
def test_without_effect_it_returns_the_vote(config):
    probability = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5, 6)).transpose(3, 0, 1, 2)
    labels = refine(probability.astype(np.float32), np.zeros((4, 5, 6), np.int16), SPACING, config)
    np.testing.assert_array_equal(labels, probability.argmax(0))
    assert labels.dtype == np.uint8


def test_very_small_weights_return_the_vote():
    labels, image = scene()
    config = CrfConfig(smooth_weight=1e-6, bilateral_weight=1e-6)
    np.testing.assert_array_equal(refine(sure(labels), image, SPACING, config), labels)


def test_fills_small_holes_and_removes_specks():
    labels, image = scene()
    flawed = labels.copy()
    flawed[8, 14, 11] = flawed[6, 12, 14] = 0
    flawed[8, 2, 2] = 2
    refined = refine(sure(flawed), image, SPACING, STRONG)
    assert (refined[8, 14, 11], refined[6, 12, 14], refined[8, 2, 2]) == (1, 1, 0)


def test_does_not_erode_a_small_tumor():
    labels, image = scene()
    refined = refine(sure(labels), image, SPACING, STRONG)
    assert (refined[labels == 2] == 2).mean() > 0.95


def test_moves_a_border_to_the_edge_in_the_image():
    labels, image = scene()
    shifted = np.roll(labels, 1, axis=2)
    before = (shifted != labels).sum()
    assert (refine(sure(shifted), image, SPACING, STRONG) != labels).sum() < before / 2


def test_either_kernel_works_alone():
    labels, image = scene()
    flawed = labels.copy()
    flawed[8, 14, 11] = 0
    for config in (
        CrfConfig(smooth_weight=0, bilateral_weight=3),
        CrfConfig(smooth_weight=3, bilateral_weight=0),
    ):
        assert refine(sure(flawed), image, SPACING, config)[8, 14, 11] == 1


def test_without_plausible_foreground_the_vote_stays():
    probability = sure(np.zeros((8, 9, 10), np.uint8), share=0.9999)
    assert not refine(probability, np.zeros((8, 9, 10), np.int16), SPACING, CrfConfig()).any()


@pytest.mark.parametrize("config", [CrfConfig(), STRONG])
@pytest.mark.parametrize("seed", range(3))
def test_the_included_voxels_get_the_labels_of_the_whole_crf(config, seed, monkeypatch):
    labels, image = scene(shape=(36, 60, 44), seed=seed)
    probability = softened(labels, seed)
    vote = probability.argmax(0)
    part = refine(probability, image, SPACING, config)
    included = crf._grown(crf._can_change(probability, config), [2, 2, 2])
    assert 0.01 < included.mean() < 0.7
    monkeypatch.setattr(crf, "_can_change", lambda p, c: np.ones(p.shape[1:], bool))
    whole = refine(probability, image, SPACING, config)
    changed = whole != vote
    assert changed.sum() > 50
    assert (part == whole).mean() > 0.9995
    assert (part == whole)[changed].mean() > 0.95


def softened(labels, seed):
    """Return probabilities that are sure inside and outside, and unsure at borders, with errors of a few mm there."""
    rng = np.random.default_rng(seed)
    logits = []
    for label in range(3):
        near = ndimage.gaussian_filter((labels == label).astype(np.float32), 1.0)
        errors = ndimage.gaussian_filter(rng.normal(size=labels.shape).astype(np.float32), 2.0)
        logits.append(9 * near + errors / errors.std())
    weights = np.exp(logits - np.max(logits, axis=0))
    return (weights / weights.sum(0)).astype(np.float32)


def test_a_sure_vote_needs_no_crf(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    labels, image = scene()
    np.testing.assert_array_equal(refine(sure(labels, share=0.95), image, SPACING, CrfConfig()), labels)


def test_a_voxel_can_change_where_its_classes_are_closer_than_the_weights():
    config = CrfConfig(smooth_weight=0.5, bilateral_weight=0.5)
    second = np.float32([0.9, 1.1]) * np.exp(-1)  # of the most probable class
    probability = np.stack([np.ones(2), np.zeros(2), second]).astype(np.float32)[:, None, None]
    assert crf._can_change(probability, config).ravel().tolist() == [False, True]


@pytest.mark.parametrize("num_classes", [2, 3, 4, 6])
def test_what_can_change_equals_brute_force(num_classes):
    config = CrfConfig(smooth_weight=0.5, bilateral_weight=0.75)
    drawn = np.random.default_rng(num_classes).dirichlet(np.full(num_classes, 0.5), (6, 7, 8))
    probability = np.moveaxis(drawn, -1, 0).astype(np.float32)
    expected = np.zeros(probability.shape[1:], bool)
    for voxel in np.ndindex(expected.shape):
        *_, second, highest = sorted(float(p) for p in probability[(slice(None), *voxel)])
        expected[voxel] = np.log(highest) - np.log(max(second, 1e-6)) < 0.5 + 0.75
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(crf._can_change(probability, config), expected)


def mean_field(probability, image, config):
    """Return the labels of a dense CRF by its definition, with the kernels as matrices over all voxels."""
    positions = np.stack([axis.ravel() * s for axis, s in zip(np.indices(image.shape), SPACING, strict=True)], axis=1)
    intensity = image.clip(*crf.CRF_HU_RANGE).reshape(-1, 1) / config.bilateral_hu
    kernels = [
        (config.smooth_weight, kernel(positions / config.smooth_mm)),
        (config.bilateral_weight, kernel(np.hstack([positions / config.bilateral_mm, intensity]))),
    ]
    log_unary = np.log(probability.reshape(len(probability), -1).astype(np.float64))
    belief = np.exp(log_unary)
    for _ in range(config.iterations):
        energy = log_unary + sum(weight * belief @ matrix for weight, matrix in kernels)
        belief = np.exp(energy - energy.max(0))
        belief /= belief.sum(0)
    return belief.argmax(0).reshape(image.shape)


def kernel(features):
    """Return the Gaussian kernel between all pairs of voxels, normalised by the roots of its row sums."""
    squares = np.square(features[:, None] - features[None]).sum(-1)
    matrix = np.exp(-0.5 * squares)
    roots = np.sqrt(matrix.sum(1))
    return matrix / roots[:, None] / roots[None]


@pytest.mark.parametrize("seed", range(3))
def test_four_classes_follow_the_definition(seed):
    """The filter of the library is an approximation, so a few voxels at borders differ."""
    labels, image = scene(shape=(10, 12, 12), seed=seed)
    labels[:] = 0
    labels[2:8, 2:10, 2:10] = 1
    labels[3:6, 3:6, 6:9] = 2
    labels[4:7, 6:9, 3:6] = CYST
    image[:] = np.array([-90, 190, 60, 5])[labels] + np.random.default_rng(seed).normal(0, 14, labels.shape)
    drawn = np.random.default_rng(seed)
    flawed = np.where(drawn.random(labels.shape) < 0.15, drawn.integers(0, 4, labels.shape), labels)
    probability = sure(flawed, share=0.55, num_classes=4)
    refined = refine(probability, image, SPACING, STRONG)
    exact = mean_field(probability, image, STRONG)
    assert (exact != flawed).sum() > 80
    assert (refined == exact).mean() > 0.97
    assert np.unique(refined).tolist() == [0, 1, 2, CYST]


@pytest.mark.parametrize("reach", [(0, 0, 0), (1, 2, 3), (5, 0, 4)])
def test_growing_is_a_box_around_each_voxel(reach):
    mask = np.zeros((12, 11, 13), bool)
    mask[3, 4, 5] = mask[11, 10, 12] = True
    expected = np.zeros_like(mask)
    for z, y, x in np.argwhere(mask):
        low = np.maximum(0, np.subtract((z, y, x), reach))
        expected[tuple(slice(at, to + wide + 1) for at, to, wide in zip(low, (z, y, x), reach, strict=True))] = True
    np.testing.assert_array_equal(crf._grown(mask, reach), expected)


def test_bone_and_air_count_as_the_ends_of_the_window():
    labels, image = scene()
    image[0] = 3000
    image[-1] = -1000
    clipped = image.clip(-200, 500)
    np.testing.assert_array_equal(
        refine(sure(labels), image, SPACING, STRONG), refine(sure(labels), clipped, SPACING, STRONG)
    )


def test_arguments_are_left_and_their_memory_order_does_not_matter():
    labels, image = scene()
    probability = sure(labels)
    before = probability.copy()
    expected = refine(probability, image, SPACING, STRONG)
    np.testing.assert_array_equal(probability, before)
    turned = refine(np.asfortranarray(probability), np.asfortranarray(image), SPACING, STRONG)
    np.testing.assert_array_equal(turned, expected)


def test_a_missing_library_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    labels, image = scene()
    with pytest.raises(ConfigError, match=r"install pydensecrf2.*iterations to 0"):
        refine(sure(labels), image, SPACING, STRONG)
