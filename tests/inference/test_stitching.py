import itertools
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from support.label_values import NUM_CLASSES

from renalnet.config import StitchConfig
from renalnet.errors import InputError
from renalnet.inference import stitching
from renalnet.inference.batch_size import BatchSizer
from renalnet.inference.stitching import sub_volume_starts

stitch = partial(stitching.stitch, num_classes=NUM_CLASSES)
stitch_slabs = partial(stitching.stitch_slabs, num_classes=NUM_CLASSES)


def ask(x):
    """Return logits that depend on a voxel's place in its sub-volume, so that overlapping sub-volumes disagree."""
    ramp = torch.linspace(-1, 1, x.shape[2])[:, None, None] + torch.linspace(0, 2, x.shape[4])
    return torch.stack([x[:, 0] * 0 + 0.3, ramp * x[:, 0], torch.sin(7 * x[:, 0] + 3 * ramp)], dim=1)


def scripted(answers):
    """Return a forward that gives these class probabilities to its sub-volumes in order, the same in each voxel."""
    queue = iter(answers)

    def forward(x):
        rows = torch.tensor([next(queue) for _ in x])
        return rows.log()[:, :, None, None, None].expand(-1, -1, *x.shape[2:])

    return forward


def at_once(number):
    return BatchSizer(torch.device("cpu"), number)


def middle(answers, **kwargs):
    """Stitch five slices with sub-volumes of three and stride one; the middle slice gets all three answers."""
    config = StitchConfig(tile=(3, 1, 1), stride=(1, 1, 1))
    got = stitch([scripted(answers)], np.zeros((5, 1, 1), np.float32), config, **kwargs)
    return int(got.labels[2, 0, 0]), got.probability[:, 2, 0, 0]


def brute_force(image, config, forwards=(ask,), weigh=lambda offset, size: 1.0):
    """Compute the vote and the weighted mean probability by definition, voxel by voxel and sub-volume by sub-volume."""
    sizes = [min(tile, length) for tile, length in zip(config.tile, image.shape, strict=True)]
    starts = [sub_volume_starts(n, t, s) for n, t, s in zip(image.shape, config.tile, config.stride, strict=True)]
    answers = {}
    for forward, corner in itertools.product(forwards, itertools.product(*starts)):
        box = tuple(slice(at, at + size) for at, size in zip(corner, sizes, strict=True))
        answers[forward, corner] = forward(torch.from_numpy(image[box][None, None].copy())).softmax(1)[0].numpy()
    labels = np.zeros(image.shape, np.uint8)
    num_classes = len(next(iter(answers.values())))
    mean = np.zeros((num_classes, *image.shape))
    for voxel in np.ndindex(image.shape):
        covering = [
            (answer, np.subtract(voxel, corner))
            for (_, corner), answer in answers.items()
            if all(0 <= v - c < size for v, c, size in zip(voxel, corner, sizes, strict=True))
        ]
        seen = [answer[(slice(None), *offset)] for answer, offset in covering]
        weights = [np.prod([weigh(*axis) for axis in zip(offset, sizes, strict=True)]) for _, offset in covering]
        total = np.sum(seen, axis=0, dtype=np.float32)
        votes = np.bincount(np.argmax(seen, axis=1), minlength=num_classes)
        labels[voxel] = max(range(num_classes), key=lambda label: (votes[label], total[label], -label))
        mean[(slice(None), *voxel)] = np.average(seen, axis=0, weights=weights)
    return labels, mean


@pytest.mark.parametrize(
    ("length", "tile", "stride", "expected"),
    [
        (96, 64, 16, (0, 16, 32)),
        (100, 64, 16, (0, 16, 32, 36)),
        (64, 64, 16, (0,)),
        (10, 64, 16, (0,)),
        (65, 64, 64, (0, 1)),
        (128, 64, 64, (0, 64)),
    ],
)
def test_sub_volume_starts(length, tile, stride, expected):
    assert sub_volume_starts(length, tile, stride) == expected


@pytest.mark.parametrize("length", range(1, 40))
def test_sub_volumes_cover_the_axis_and_stay_inside(length):
    for tile, stride in [(8, 3), (8, 8), (5, 1)]:
        covered = {v for at in sub_volume_starts(length, tile, stride) for v in range(at, at + min(tile, length))}
        assert covered == set(range(length))


@pytest.mark.parametrize("shape", [(9, 7, 11), (3, 7, 5), (4, 4, 4), (1, 1, 1), (13, 2, 6)])
def test_equals_brute_force(shape):
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2))
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    labels, mean = brute_force(image, config)
    got = stitch([ask], image, config)
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_array_equal(got.probability.argmax(0), labels)
    np.testing.assert_allclose(np.sort(got.probability, 0), np.sort(mean, 0), atol=2e-6)
    assert got.labels.dtype == np.uint8
    assert got.probability.dtype == np.float32


def ask_four(x):
    """Return logits of four classes."""
    return torch.cat([ask(x), torch.cos(5 * x)], dim=1)


@pytest.mark.parametrize("combine", ["vote", "mean"])
def test_four_classes_equal_brute_force(combine):
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2), combine=combine)
    image = np.random.default_rng(7).normal(size=(9, 7, 11)).astype(np.float32)
    labels, mean = brute_force(image, config, (ask_four,))
    got = stitching.stitch([ask_four], image, config, num_classes=4)
    np.testing.assert_array_equal(got.labels, labels if combine == "vote" else mean.argmax(0))
    np.testing.assert_array_equal(got.probability.argmax(0), got.labels)
    np.testing.assert_allclose(np.sort(got.probability, 0), np.sort(mean, 0), atol=2e-6)
    assert np.unique(got.labels).tolist() == [0, 1, 2, 3]


def test_a_fourth_class_wins_by_its_votes():
    """Two of three sub-volumes vote for class 3, although class 1 has the largest sum."""
    answers = [(0.1, 0.2, 0.2, 0.5), (0.1, 0.4, 0.0, 0.5), (0.0, 0.9, 0.1, 0.0)]
    config = StitchConfig(tile=(3, 1, 1), stride=(1, 1, 1))
    got = stitching.stitch([scripted(answers)], np.zeros((5, 1, 1), np.float32), config, num_classes=4)
    assert got.labels[2, 0, 0] == 3
    # The means are 0.2 / 3, 0.5, 0.1 and 1 / 3. Those of classes 1 and 3 change places.
    np.testing.assert_allclose(got.probability[:, 2, 0, 0], [0.2 / 3, 1 / 3, 0.1, 0.5], atol=1e-6)


def test_the_brute_force_case_holds_votes_that_differ_from_the_mean():
    image = np.random.default_rng(1).normal(size=(9, 7, 11)).astype(np.float32)
    labels, mean = brute_force(image, StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2)))
    assert (labels != mean.argmax(0)).any()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_does_not_depend_on_the_batch_size(batch_size):
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2))
    image = np.random.default_rng(2).normal(size=(9, 8, 10)).astype(np.float32)
    one = stitch([ask], image, config)
    many = stitch([ask], image, config, batches=at_once(batch_size))
    np.testing.assert_array_equal(one.labels, many.labels)
    np.testing.assert_allclose(one.probability, many.probability, atol=1e-6)


def test_two_mild_votes_beat_one_sure_one_and_probabilities_change_places():
    label, probability = middle([(0.55, 0.45, 0.0), (0.55, 0.45, 0.0), (0.01, 0.99, 0.0)])
    assert label == 0
    np.testing.assert_allclose(probability, [0.63, 0.37, 0.0], atol=1e-6)


def test_tied_votes_go_to_the_larger_sum():
    label, probability = middle([(0.6, 0.3, 0.1), (0.1, 0.8, 0.1), (0.2, 0.1, 0.7)])
    assert label == 1
    np.testing.assert_allclose(probability, [0.3, 0.4, 0.3], atol=1e-6)


def test_a_sum_counts_only_among_the_tied():
    # Votes 2, 2, 1 over five sub-volumes; background's sum (1.95) exceeds both tied classes' but it has one vote.
    answers = [(0.1, 0.5, 0.4), (0.35, 0.6, 0.05), (0.3, 0.1, 0.6), (0.3, 0.1, 0.6), (0.9, 0.1, 0.0)]
    config = StitchConfig(tile=(5, 1, 1), stride=(1, 1, 1))
    got = stitch([scripted(answers)], np.zeros((9, 1, 1), np.float32), config)
    assert got.labels[4, 0, 0] == 2
    np.testing.assert_allclose(got.probability[:, 4, 0, 0], [1.65 / 5, 1.4 / 5, 1.95 / 5], atol=1e-6)


def test_equal_means_still_leave_the_vote_as_the_maximum():
    label, probability = middle([(0.25, 0.75, 0.0), (0.5, 0.5, 0.0), (0.75, 0.25, 0.0)])
    assert label == probability.argmax() == 0
    label, probability = middle([(0.375, 0.625, 0.0), (0.375, 0.625, 0.0), (0.75, 0.25, 0.0)])
    assert label == probability.argmax() == 1
    np.testing.assert_allclose(probability, [0.5, 0.5, 0.0], atol=1e-6)


def test_more_than_255_votes_are_counted():
    config = StitchConfig(tile=(300, 1, 1), stride=(1, 1, 1))
    answers = [(0.0, 1.0, 0.0)] * 260 + [(1.0, 0.0, 0.0)] * 41
    got = stitch([scripted(answers)], np.zeros((600, 1, 1), np.float32), config, batches=at_once(50))
    assert got.labels[300, 0, 0] == 1


def test_a_short_roi_is_one_sub_volume():
    seen = []
    stitch([lambda x: seen.append(tuple(x.shape)) or ask(x)], np.zeros((5, 9, 3), np.float32), StitchConfig())
    assert seen == [(1, 1, 5, 9, 3)]


def test_half_precision_logits_are_accepted():
    config = StitchConfig(tile=(4, 4, 4), stride=(2, 2, 2))
    got = stitch([lambda x: ask(x).bfloat16()], np.ones((6, 6, 6), np.float32), config)
    np.testing.assert_allclose(got.probability.sum(0), 1, atol=1e-5)


def test_the_image_is_left_as_it_was():
    image = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32))
    before = image.copy()
    stitch([ask], image, StitchConfig(tile=(4, 4, 4), stride=(2, 2, 2)))
    np.testing.assert_array_equal(image, before)


def test_a_diverged_network_is_refused():
    with pytest.raises(InputError, match="not finite in 8 of 8 voxels of slices 0 to 1"):
        stitch([lambda x: ask(x) * torch.nan], np.zeros((2, 2, 2), np.float32), StitchConfig())


def other(x):
    """Return other logits than `ask`."""
    return ask(1 - x).roll(1, dims=1)


def third(x):
    return ask(x * 0.5) - 0.2


def test_the_members_of_an_ensemble_vote_together():
    config = StitchConfig(tile=(5, 6, 4), stride=(2, 3, 3))
    image = np.random.default_rng(4).uniform(-1, 2, (11, 9, 8)).astype(np.float32)
    forwards = (ask, other, third)
    got = stitch(forwards, image, config, batches=at_once(3))
    labels, mean = brute_force(image, config, forwards)
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_allclose(np.sort(got.probability, axis=0), np.sort(mean, axis=0), atol=1e-5)
    alone = np.stack([stitch([forward], image, config).labels for forward in forwards])
    of_labels = np.stack([(alone == label).sum(axis=0) for label in range(3)]).argmax(axis=0)
    assert (of_labels != labels).any()  # a vote of the members' labels is another rule


def test_sub_volumes_count_and_not_members():
    """Two members vote 0 in two of three sub-volumes, the third votes 1 in all: class 1 wins by five votes to four."""
    for_0 = (0.6, 0.4, 0.0)
    for_1 = (0.4, 0.6, 0.0)
    forwards = [scripted(answers) for answers in ([for_0, for_0, for_1], [for_0, for_0, for_1], [for_1] * 3)]
    config = StitchConfig(tile=(3, 1, 1), stride=(1, 1, 1))
    got = stitch(forwards, np.zeros((5, 1, 1), np.float32), config)
    assert got.labels[2, 0, 0] == got.probability[:, 2, 0, 0].argmax() == 1
    np.testing.assert_allclose(np.sort(got.probability[:, 2, 0, 0]), [0, 4.4 / 9, 4.6 / 9], atol=1e-6)


def test_a_tie_between_members_goes_to_the_larger_sum():
    forwards = [scripted([(0.9, 0.1, 0.0)]), scripted([(0.2, 0.0, 0.8)])]
    got = stitch(forwards, np.zeros((1, 1, 1), np.float32), StitchConfig(tile=(1, 1, 1), stride=(1, 1, 1)))
    assert got.labels.item() == 0
    np.testing.assert_allclose(got.probability.ravel(), [0.55, 0.05, 0.4], atol=1e-6)


def test_an_ensemble_of_one_is_the_network_alone_bit_for_bit():
    config = StitchConfig(tile=(4, 4, 4), stride=(3, 2, 1))
    image = np.random.default_rng(6).normal(size=(9, 7, 6)).astype(np.float32)
    one = stitch([ask], image, config)
    twice = stitch([ask, ask], image, config)
    np.testing.assert_array_equal(stitch([ask], image, config).probability, one.probability)
    np.testing.assert_array_equal(twice.labels, one.labels)  # the same votes twice change no majority


def test_more_than_255_votes_of_members_are_counted():
    """Class 0 gets the 200 votes of one member and 100 of the other; class 1 gets 100 of the other."""
    config = StitchConfig(tile=(200, 1, 1), stride=(1, 1, 1))
    for_0 = (0.9, 0.1, 0.0)
    for_1 = (0.1, 0.9, 0.0)
    num_tiles = 401 - 200 + 1
    forwards = [scripted([for_0] * num_tiles), scripted([for_0, for_1] * num_tiles)]
    got = stitch(forwards, np.zeros((401, 1, 1), np.float32), config, batches=at_once(50))
    assert got.labels[200, 0, 0] == 0
    np.testing.assert_allclose(got.probability[:, 200, 0, 0], [0.7, 0.3, 0.0], atol=1e-5)


def bell(offset, size):
    """Return a Gaussian weight around the centre of a sub-volume, with a width of an eighth of its length."""
    return max(np.exp(-0.5 * ((offset - (size - 1) / 2) / (size / 8)) ** 2), 1e-3)


@pytest.mark.parametrize("shape", [(9, 7, 11), (3, 7, 5), (13, 2, 6)])
@pytest.mark.parametrize(("combine", "weigh"), [("mean", lambda offset, size: 1.0), ("gaussian", bell)])
def test_means_equal_brute_force(shape, combine, weigh):
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2), combine=combine)
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    _, mean = brute_force(image, config, (ask, third), weigh)
    got = stitch([ask, third], image, config, batches=at_once(3))
    np.testing.assert_allclose(got.probability, mean, atol=2e-6)
    np.testing.assert_array_equal(got.labels, got.probability.argmax(0))


def test_a_mean_lets_the_sure_one_win_where_a_vote_does_not():
    answers = [(0.55, 0.45, 0.0), (0.55, 0.45, 0.0), (0.01, 0.99, 0.0)]
    config = StitchConfig(tile=(3, 1, 1), stride=(1, 1, 1), combine="mean")
    got = stitch([scripted(answers)], np.zeros((5, 1, 1), np.float32), config)
    assert (got.labels[2, 0, 0], middle(answers)[0]) == (1, 0)


def test_mirror_images_are_looked_at_in_all_combinations_and_have_one_vote():
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2), mirror=("z", "x"))
    image = np.random.default_rng(3).normal(size=(7, 8, 9)).astype(np.float32)

    def by_hand(x):
        flips = [(), (2,), (4,), (2, 4)]
        return torch.stack([ask(x.flip(flip)).softmax(1).flip(flip) for flip in flips]).mean(0).log()

    got = stitch([ask], image, config)
    expected = stitch([by_hand], image, config.model_copy(update={"mirror": ()}))
    np.testing.assert_array_equal(got.labels, expected.labels)
    np.testing.assert_allclose(got.probability, expected.probability, atol=2e-6)
    assert (got.labels != stitch([ask], image, config.model_copy(update={"mirror": ()})).labels).any()


@pytest.mark.parametrize("number", [1, 2, 7])
def test_slabs_come_in_order_as_soon_as_they_are_decided(number):
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2))
    image = np.random.default_rng(5).normal(size=(11, 8, 6)).astype(np.float32)
    whole = stitch([ask], image, config)
    asked = []

    def forward(x):
        asked.append(len(x))
        return ask(x)

    first = 0
    for slab in stitch_slabs([forward], image, config, batches=at_once(number)):
        depth = len(slab.stitched.labels)
        assert slab.first == first
        np.testing.assert_array_equal(slab.stitched.labels, whole.labels[first : first + depth])
        np.testing.assert_allclose(slab.stitched.probability, whole.probability[:, first : first + depth], atol=1e-6)
        if number == 1 and first == 0:
            assert (depth, sum(asked)) == (2, 2)  # the first two slices are decided after their two sub-volumes
        first += depth
    assert first == len(image)


def test_an_image_is_normalised_a_sub_volume_at_a_time():
    config = StitchConfig(tile=(4, 5, 6), stride=(3, 5, 6))
    image = np.random.default_rng(5).integers(-500, 900, (12, 5, 6)).astype(np.int16)
    depths = []

    def normalise(slices):
        depths.append(len(slices))
        return slices.astype(np.float32) / 700

    got = stitch([ask], image, config, normalise=normalise)
    np.testing.assert_array_equal(got.labels, stitch([ask], image.astype(np.float32) / 700, config).labels)
    assert depths == [4, 4, 4, 4]


def test_parts_are_halved_where_memory_runs_out():
    config = StitchConfig(tile=(4, 5, 6), stride=(2, 3, 2))
    image = np.random.default_rng(2).normal(size=(9, 8, 10)).astype(np.float32)
    sizes = []

    def small(x):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ask(x)

    sizer = at_once(9)
    np.testing.assert_array_equal(
        stitch([small], image, config, batches=sizer).labels, stitch([ask], image, config).labels
    )
    assert sizer.size == 2 and sizes[:3] == [9, 4, 2]


def test_a_sub_volume_that_does_not_fit_alone_is_an_error():
    def never(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        stitch([never], np.zeros((4, 4, 4), np.float32), StitchConfig(), batches=at_once(4))


PROBE = """
import sys, numpy as np, torch
from renalnet.config import StitchConfig
from renalnet.inference.stitching import stitch_slabs
torch.set_num_threads(1)
ramp = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
image = np.broadcast_to(ramp, (int(sys.argv[1]), 100, 100))  # one slice in memory
config = StitchConfig(tile=(64, 100, 100), stride=(32, 100, 100))
slabs = stitch_slabs([lambda x: torch.cat([x, 1 - x, x * 0], dim=1)], image, config, num_classes=3)
num_voxels = sum(slab.stitched.labels.size for slab in slabs)
lines = open("/proc/self/status").read().splitlines()
print(num_voxels, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
"""


GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""The C library frees every tensor at once, so that the peak counts only memory in use."""


@pytest.mark.slow
def test_memory_is_flat_from_64_to_1000_slices():
    """The probabilities of 1000 slices alone would take 120 MB."""
    peaks_mb = []
    for depth in (64, 1000):
        probe = [sys.executable, "-c", PROBE, str(depth)]
        done = subprocess.run(probe, capture_output=True, text=True, check=True, env=os.environ | GIVES_BACK)
        num_voxels, peak_kb = map(int, done.stdout.split())
        assert num_voxels == depth * 100 * 100
        peaks_mb.append(peak_kb / 1024)
    assert peaks_mb[1] - peaks_mb[0] < 10, peaks_mb
