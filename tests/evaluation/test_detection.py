import numpy as np
import pytest

from renalnet.errors import InputError
from renalnet.evaluation.detection import Interval, by_patient, by_voxel, tumor_found, wilson
from renalnet.evaluation.overlap import Confusion


def box(*spans, shape=(4, 12, 12)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


TRUTH = box((0, 2), (0, 5), (0, 10))  # 100 voxels


@pytest.mark.parametrize(("depth", "found"), [(10, True), (9, False)])
def test_found_from_an_intersection_over_union_of_a_tenth(depth, found):
    # A component inside the truth: IoU = depth / 100.
    assert tumor_found(TRUTH, box((0, 1), (0, 1), (0, depth))) is found


def test_voxels_outside_the_truth_count_in_the_union():
    # Shares 10 voxels with the truth and has 14 more outside: 10 / (100 + 14).
    assert tumor_found(TRUTH, box((0, 2), (4, 12), (9, 10)) | box((0, 1), (0, 5), (9, 10))) is False


def test_components_are_not_added_up():
    six = box((0, 1), (0, 1), (0, 6))
    other = box((1, 2), (4, 5), (0, 6))
    assert tumor_found(TRUTH, six | other) is False
    joined = six | box((1, 2), (0, 1), (5, 10))  # the two touch, 11 voxels
    assert tumor_found(TRUTH, joined) is True


def test_an_edge_joins_a_component_and_a_corner_does_not():
    six = box((0, 1), (0, 1), (0, 6))
    assert tumor_found(TRUTH, six | box((1, 2), (1, 2), (5, 10))) is True
    assert tumor_found(TRUTH, six | box((1, 2), (1, 2), (6, 10))) is False


def test_a_second_component_elsewhere_does_no_harm():
    assert tumor_found(TRUTH, TRUTH | box((3, 4), (8, 12), (0, 12))) is True


def test_found_with_empty_masks():
    nothing = np.zeros_like(TRUTH)
    assert tumor_found(nothing, TRUTH) is None
    assert tumor_found(nothing, nothing) is None
    assert tumor_found(TRUTH, nothing) is False


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Worked out by hand from Wilson (1927); the third is also Newcombe's (1998) table I.
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_known_values(successes, total, low, high):
    interval = wilson(successes, total)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize("total", [1, 7, 50])
def test_wilson_holds_the_share_and_mirrors(total):
    for successes in range(total + 1):
        interval = wilson(successes, total)
        mirrored = wilson(total - successes, total)
        assert 0 <= interval.low <= successes / total <= interval.high <= 1
        assert interval.low == pytest.approx(1 - mirrored.high)


def test_wilson_widens_with_confidence():
    narrow = wilson(7, 20, 0.8)
    wide = wilson(7, 20, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("successes", "total"), [(3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(successes, total):
    with pytest.raises(InputError, match="successes must be between"):
        wilson(successes, total)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_wilson_refuses_a_confidence_that_is_none(confidence):
    with pytest.raises(InputError, match="must be between 0 and 1"):
        wilson(1, 2, confidence)


PATIENTS = [Confusion(8, 1, 2, 89), Confusion(30, 4, 10, 56), Confusion(0, 5, 0, 95)]


def test_by_voxel_pools_voxels():
    detection = by_voxel(PATIENTS, seed=0)
    assert (detection.sensitivity.successes, detection.sensitivity.total) == (38, 50)
    assert detection.sensitivity.value == pytest.approx(0.76)
    assert detection.specificity.value == pytest.approx(240 / 250)


def test_bootstrap_draws_patients():
    # Draws mix patients 1 and 2, so the share is between theirs: 0.75 and 0.8.
    interval = by_voxel(PATIENTS, seed=0).sensitivity.interval
    assert (interval.low, interval.high) == pytest.approx((0.75, 0.8))


def test_bootstrap_repeats_with_its_seed():
    many = [Confusion(k, k % 3, 20 - k, 100) for k in range(20)]
    assert by_voxel(many, seed=3) == by_voxel(many, seed=3)
    assert by_voxel(many, seed=3) != by_voxel(many, seed=4)


def test_one_patient_has_an_interval_of_no_width():
    interval = by_voxel(PATIENTS[:1], seed=0).sensitivity.interval
    assert (interval.low, interval.high) == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize("patients", [[], [Confusion(0, 0, 0, 50)]])
def test_no_tumor_voxels_leave_sensitivity_open(patients):
    rate = by_voxel(patients, seed=0).sensitivity
    assert rate.value is None
    assert rate.interval == Interval(0.0, 1.0)


def test_by_patient():
    detection = by_patient(found=[True] * 9 + [False], false_alarms=[False, False, True])
    assert detection.sensitivity.value == pytest.approx(0.9)
    assert (detection.specificity.successes, detection.specificity.total) == (2, 3)
    assert detection.sensitivity.interval == wilson(9, 10)


def test_by_patient_without_healthy_kidneys():
    specificity = by_patient(found=[True], false_alarms=[]).specificity
    assert specificity.value is None
    assert specificity.interval == Interval(0.0, 1.0)
