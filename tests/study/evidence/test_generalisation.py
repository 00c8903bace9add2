"""Ranks, optimism and subsets of validation cases, worked out by hand."""

import pytest
from support.fake_results import metric_row

from renalnet.config import KIDNEY_TUMOR
from study.evidence.generalisation import (
    SubsetChoice,
    correlation_of,
    enough_cases,
    optimisms_of,
    ranks_of,
    scores_of,
    subset_choices,
)
from study.records.tables import Measurement
from study.report.analysis.statistics import Settings


def rows(finalist: str, split: str, tumor: list[float], kidney: float = 0.8, stage: str = "final") -> list[Measurement]:
    """Rows of one case for each tumor Dice."""
    about = {"checkpoint": finalist, "split": split, "stage": stage}
    return [
        Measurement(**metric_row(f"{split}-{number}", finalist[:1], label, dice, **about))
        for number, value in enumerate(tumor)
        for label, dice in (("kidney", kidney), ("tumor", value))
    ]


def test_the_score_is_the_mean_dice_of_the_labels() -> None:
    measured = [*rows("a-1", "test", [0.4, 0.6]), *rows("a-1", "test", [0.0, 0.0], stage="network")]
    assert scores_of(measured, "test", KIDNEY_TUMOR) == {
        "a-1": {"test-0": pytest.approx(0.6), "test-1": pytest.approx(0.7)}
    }


def test_ranks_by_hand() -> None:
    measured = [
        *(row for name, dice in (("a-1", 0.9), ("b-1", 0.5), ("c-1", 0.7)) for row in rows(name, "validation", [dice])),
        *(row for name, dice in (("a-1", 0.6), ("b-1", 0.4), ("c-1", 0.8)) for row in rows(name, "test", [dice])),
        *rows("d-1", "validation", [1.0]),  # not measured on test cases
        Measurement(**metric_row("test-0", "threshold_roi", "tumor", 0.9)),
    ]
    found = ranks_of(measured, KIDNEY_TUMOR)
    assert [(rank.finalist, rank.validation_rank, rank.test_rank) for rank in found] == [
        ("a-1", 1, 2),
        ("c-1", 2, 1),
        ("b-1", 3, 3),
    ]
    assert correlation_of(found) == pytest.approx(0.5)  # 1 - 6 (1 + 1 + 0) / (3 · 8)


def test_optimism_is_the_gain_that_test_cases_do_not_show() -> None:
    measured = [
        *rows("a-1", "validation", [0.3, 0.5], stage="network"),
        *rows("a-1", "validation", [0.6, 0.8]),
        *rows("a-1", "test", [0.4, 0.4], stage="network"),
        *rows("a-1", "test", [0.5, 0.5]),
    ]
    (found,) = optimisms_of(measured, Settings(resamples=20))
    # Each case of a split gains alike, so resampling changes nothing.
    values = (found.validation_gain, found.test_gain, found.optimism, found.low, found.high)
    assert values == pytest.approx((0.3, 0.1, 0.2, 0.2, 0.2))


def test_subsets_of_all_cases_choose_as_the_study() -> None:
    measured = [
        *rows("a-1", "validation", [1.0, 1.0, 1.0, 0.0]),
        *rows("b-1", "validation", [0.5, 0.5, 0.5, 0.5]),
        *rows("a-1", "test", [0.4]),
        *rows("b-1", "test", [0.8]),
    ]
    of_three, of_all = subset_choices(measured, KIDNEY_TUMOR)
    assert (of_three.num_cases, of_all.num_cases) == (3, 4)
    # Any three cases choose a-1, whose mean is then 0.67 or 1; on the test cases it loses half of 0.4 in the mean.
    assert (of_three.agreement, of_all.agreement) == (1.0, 1.0)
    assert of_all.mean_loss == pytest.approx(0.2)
    assert of_all.mean_correlation == pytest.approx(-1.0)
    assert subset_choices(rows("a-1", "validation", [1.0]), KIDNEY_TUMOR) == []


def test_small_subsets_choose_otherwise() -> None:
    validation = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # mean 0.375, but above 0.4 in many subsets of three
    measured = [
        *rows("a-1", "validation", validation),
        *rows("b-1", "validation", [0.4] * 8),
        *rows("a-1", "test", [0.2]),
        *rows("b-1", "test", [0.6]),
    ]
    few, _, of_all = subset_choices(measured, KIDNEY_TUMOR)
    # a-1 wins with two or three of its three good cases: (3 · 5 + 1) / 56 of the subsets.
    assert few.agreement == pytest.approx(1 - 16 / 56, abs=0.04)
    assert few.mean_loss == pytest.approx(0.2 * 16 / 56, abs=0.01)
    assert of_all.mean_loss == 0


def test_enough_cases_are_those_after_which_the_loss_stays() -> None:
    losses = {3: 0.05, 5: 0.012, 8: 0.016, 12: 0.011, 20: 0.01}
    choices = [SubsetChoice(size, 1.0, loss, None) for size, loss in losses.items()]
    assert enough_cases(choices) == 12
    assert enough_cases([]) is None
