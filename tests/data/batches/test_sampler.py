"""Tests of the locations of crops and of the shuffle window."""

import numpy as np
import pytest
from support.label_values import KIDNEY, TUMOR

from renalnet.config import KIDNEY_TUMOR, PatchConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.data.batches.sampler import ENTER_AHEAD, Sampler, ShuffleWindow
from renalnet.errors import StoreError

ALL_CASES = ShuffleWindow(4, 128, 16, 0)
CONFIG = PatchConfig(shape=(8, 12, 12))


def test_streams_differ_by_purpose_and_place_and_repeat() -> None:
    drawn = {
        (seed, purpose, place): stream(seed, purpose, place).random()
        for seed in (0, 1)
        for purpose in Purpose
        for place in (0, 1)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert stream(1, Purpose.CROP, 0).random() == drawn[1, Purpose.CROP, 0]


def test_one_case_leaves_and_one_enters_every_visit() -> None:
    window = ShuffleWindow(num_cases=10, size=4, visit=3, seed=0)
    for crop in range(2, 60, 3):
        before = window.at(crop).tolist()
        after = window.at(crop + 1).tolist()
        assert window.at(crop - 2).tolist() == before
        assert after[:-1] == before[1:]


def test_each_pass_has_all_cases_once_in_its_own_order() -> None:
    window = ShuffleWindow(num_cases=10, size=4, visit=1, seed=0)
    entering = [int(window.at(crop)[-1]) for crop in range(30)]
    arrived = [*window.at(0)[:-1].tolist(), *entering]
    passes = [arrived[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_a_window_of_all_cases_does_not_move() -> None:
    assert ALL_CASES.holds_all
    assert ALL_CASES.at(0).tolist() == ALL_CASES.at(10**6).tolist() == [0, 1, 2, 3]
    assert ALL_CASES.around(5, 900).tolist() == [0, 1, 2, 3]


def test_cases_around_include_all_windows_between_and_the_next() -> None:
    window = ShuffleWindow(num_cases=50, size=4, visit=2, seed=1)
    around = window.around(7, 12).tolist()
    assert {number for crop in range(7, 13) for number in window.at(crop).tolist()} <= set(around)
    assert around[-ENTER_AHEAD:] == [int(window.at(12 + 2 * ahead)[-1]) for ahead in range(1, ENTER_AHEAD + 1)]


def test_crops_lie_inside_a_larger_roi(ball_cohort: Cohort) -> None:
    sampler = Sampler(ball_cohort.train, CONFIG, ALL_CASES, KIDNEY_TUMOR)
    generator = np.random.default_rng(0)
    for crop in range(50):
        location = sampler.draw(crop, generator)
        assert all(start >= 0 for start in location.start)
        ends = [start + size for start, size in zip(location.start, location.shape, strict=True)]
        assert all(end <= length for end, length in zip(ends, (16, 20, 20), strict=True))


def test_anywhere_is_as_likely_everywhere(ball_cohort: Cohort) -> None:
    config = PatchConfig(shape=(12, 17, 24), tumor_share=0.0, kidney_share=0.0)  # in an ROI of 16×20×20
    sampler = Sampler(ball_cohort.train, config, ALL_CASES, KIDNEY_TUMOR)
    z, y, x = np.array([sampler.draw(crop, np.random.default_rng(crop)).start for crop in range(1000)]).T
    assert np.bincount(z) == pytest.approx([200] * 5, abs=50)
    assert np.bincount(y) == pytest.approx([250] * 4, abs=50)
    assert set(x.tolist()) == {-2}


@pytest.mark.parametrize(("shares", "label"), [((1.0, 0.0), TUMOR), ((0.0, 1.0), KIDNEY)])
def test_a_voxel_of_the_label_lies_in_the_middle_half_where_the_roi_allows(
    ball_cohort: Cohort, shares: tuple[float, float], label: int
) -> None:
    config = PatchConfig(shape=(4, 4, 4), tumor_share=shares[0], kidney_share=shares[1])
    sampler = Sampler(ball_cohort.train, config, ALL_CASES, KIDNEY_TUMOR)
    for crop in range(60):
        location = sampler.draw(crop, np.random.default_rng(crop))
        middle = tuple(slice(start + 1, start + 3) for start in location.start)
        assert (ball_cohort.train[location.case].label[middle] == label).any()


def test_a_case_without_the_label_is_not_drawn_for_it(ball_cohort: Cohort) -> None:
    train = ball_cohort.train
    counts = train.counts.copy()
    counts[1:, TUMOR] = 0
    one_tumor = DecodedCases(train._source, train.shapes, counts)
    sampler = Sampler(
        one_tumor, PatchConfig(shape=(8, 12, 12), tumor_share=1.0, kidney_share=0.0), ALL_CASES, KIDNEY_TUMOR
    )
    assert {sampler.draw(crop, np.random.default_rng(crop)).case for crop in range(20)} == {0}
    counts[0, TUMOR] = 0
    assert len({sampler.draw(crop, np.random.default_rng(crop)).case for crop in range(40)}) == 4


def test_order_of_need_is_the_order_of_use(ball_cohort: Cohort) -> None:
    sampler = Sampler(ball_cohort.train, CONFIG, ALL_CASES, KIDNEY_TUMOR)
    needed = list(dict.fromkeys(sampler.order_of_need(seed=3, first_crop=5)))
    used = [sampler.draw(crop, stream(3, Purpose.CROP, crop)).case for crop in range(5, 21)]
    assert needed == list(dict.fromkeys([*used, *range(4)]))


def test_no_training_case_is_refused(ball_cohort: Cohort) -> None:
    nobody = DecodedCases(ball_cohort.train._source, np.empty((0, 3), np.int64), np.empty((0, 3), np.int64))
    with pytest.raises(StoreError, match="no training ROI"):
        Sampler(nobody, CONFIG, ALL_CASES, KIDNEY_TUMOR)
