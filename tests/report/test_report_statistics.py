import pytest

from study.report.statistics import Settings, estimate, paired_difference

SETTINGS = Settings(resamples=500)


def test_mean_and_sample_sd_by_hand() -> None:
    value = estimate([0.2, 0.4, 0.9], SETTINGS)
    assert value is not None
    assert value.mean == pytest.approx(0.5)
    assert value.sd == pytest.approx(0.36056, abs=1e-5)  # sqrt((0.09 + 0.01 + 0.16) / 2)
    assert value.low <= value.mean <= value.high


def test_one_patient_has_no_sd() -> None:
    value = estimate([0.7], SETTINGS)
    assert value is not None
    assert (value.sd, value.low, value.high) == (None, 0.7, 0.7)


def test_no_patient_no_estimate() -> None:
    assert estimate([], SETTINGS) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.5, 0.6, 0.9]
    assert estimate(values, SETTINGS) == estimate(values, SETTINGS)


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    values = [0.1, 0.5, 0.6, 0.9, 0.3]
    narrow, wide = (estimate(values, Settings(confidence=level)) for level in (0.5, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_signed_ranks_by_hand() -> None:
    # Five differences of one sign: p = 2 / 2**5.
    difference = paired_difference([0.6, 0.7, 0.8, 0.9, 1.0], [0.5, 0.5, 0.5, 0.5, 0.5], SETTINGS)
    assert difference.p_value == pytest.approx(0.0625)
    assert difference.mean == pytest.approx(0.3)
    assert difference.num == 5


def test_equal_patients_give_p_one() -> None:
    difference = paired_difference([0.5, 0.6], [0.5, 0.6], SETTINGS)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_the_difference_is_antisymmetric() -> None:
    ours, theirs = [0.9, 0.7, 0.3], [0.5, 0.8, 0.1]
    forward, back = (paired_difference(a, b, SETTINGS) for a, b in ((ours, theirs), (theirs, ours)))
    assert forward.mean == pytest.approx(-back.mean)
    assert forward.p_value == pytest.approx(back.p_value)
