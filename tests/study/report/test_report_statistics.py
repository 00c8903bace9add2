import numpy as np
import pytest
from scipy import stats

from study.report.analysis.statistics import (
    Settings,
    cases_for,
    correlation,
    estimate,
    holm,
    least_p,
    paired_difference,
)

SETTINGS = Settings(resamples=500)


def test_mean_and_sample_sd_by_hand() -> None:
    value = estimate([0.2, 0.4, 0.9], SETTINGS)
    assert value is not None
    assert value.mean == pytest.approx(0.5)
    assert value.sd == pytest.approx(0.36056, abs=1e-5)  # sqrt((0.09 + 0.01 + 0.16) / 2)
    assert value.low <= value.mean <= value.high


def test_one_case_has_no_sd() -> None:
    value = estimate([0.7], SETTINGS)
    assert value is not None
    assert (value.sd, value.low, value.high) == (None, 0.7, 0.7)


def test_no_case_has_no_estimate() -> None:
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


def test_equal_cases_give_p_one() -> None:
    difference = paired_difference([0.5, 0.6], [0.5, 0.6], SETTINGS)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_the_difference_is_antisymmetric() -> None:
    ours, theirs = [0.9, 0.7, 0.3], [0.5, 0.8, 0.1]
    forward, back = (paired_difference(a, b, SETTINGS) for a, b in ((ours, theirs), (theirs, ours)))
    assert forward.mean == pytest.approx(-back.mean)
    assert forward.p_value == pytest.approx(back.p_value)


def test_holm_by_hand() -> None:
    # Sorted: 0.01 × 4, 0.02 × 3, 0.03 × 2, 0.04 × 1; each at least as large as the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_effect_sizes_by_hand() -> None:
    # Differences 0.1, 0.2, -0.3, 0: ranks 1 and 2 for, 3 against; mean 0, sd of the four 0.216.
    even = paired_difference([0.6, 0.7, 0.2, 0.5], [0.5, 0.5, 0.5, 0.5], SETTINGS)
    assert even.rank_biserial == pytest.approx(0)
    assert even.cohens_dz == pytest.approx(0, abs=1e-12)
    ahead = paired_difference([0.6, 0.8, 0.4], [0.5, 0.5, 0.5], SETTINGS)  # 0.1, 0.3, -0.1: ranks 1.5, 3, 1.5
    assert ahead.rank_biserial == pytest.approx(3 / 6)
    assert ahead.cohens_dz == pytest.approx(0.1 / 0.2)


def test_the_rank_biserial_is_wilcoxons_statistic_scaled() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.uniform(size=(2, 25))
    statistic = stats.wilcoxon(ours, theirs).statistic  # the lesser of the two rank sums
    found = paired_difference(ours.tolist(), theirs.tolist(), SETTINGS)
    assert abs(found.rank_biserial) == pytest.approx(1 - 2 * statistic / (25 * 26 / 2))
    assert found.p_value == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)


def test_equal_cases_have_no_effect() -> None:
    same = paired_difference([0.5, 0.6], [0.5, 0.6], SETTINGS)
    assert (same.rank_biserial, same.cohens_dz) == (0, None)
    assert paired_difference([0.9], [0.5], SETTINGS).cohens_dz is None


def test_the_correlation_is_scipys_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(size=40).round(1)
    second = first + rng.normal(0, 0.3, 40)
    found = correlation(first.tolist(), second.tolist(), Settings())
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert -1 <= found.low < found.value < found.high <= 1
    assert correlation([1.0, 1.0], [0.2, 0.3], SETTINGS) is None


def test_the_least_p_by_hand() -> None:
    # Seven cases: the most extreme two of 2**7 signs, times eight tests.
    assert least_p(7, 8) == 0.125
    assert (least_p(1, 1), least_p(3, 8)) == (1.0, 1.0)
    assert (cases_for(0.05, 1), cases_for(0.05, 8)) == (6, 9)
    best = paired_difference([0.1 * n for n in range(1, 8)], [0.0] * 7, SETTINGS)
    assert holm([best.p_value] * 8)[0] == least_p(7, 8)


def test_ties_are_tested_exactly() -> None:
    # All five ranks are 3: of 2**5 signs, two give a sum as extreme. The normal distribution would give 0.025.
    tied = paired_difference([0.75] * 5, [0.5] * 5, SETTINGS)
    assert tied.p_value == 0.0625
    # Differences 1/4, 1/4, -1/2, ranks 1.5, 1.5, 3: both rank sums are 3, the middle of 8 signs.
    assert paired_difference([0.75, 0.75, 0.0], [0.5] * 3, SETTINGS).p_value == 1.0
    # Ranks 1.5, 1.5, 3 with the first against: sums of at most 1.5 are those of the signs ---, +-- and -+-.
    assert paired_difference([0.25, 0.75, 1.0], [0.5] * 3, SETTINGS).p_value == 6 / 8


def test_many_cases_are_tested_as_scipy_does() -> None:
    ours, theirs = np.random.default_rng(4).uniform(size=(2, 60))
    found = paired_difference(ours.tolist(), theirs.tolist(), SETTINGS)
    assert found.p_value == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)
