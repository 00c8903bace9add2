"""Methods over groups of test cases, worked out by hand."""

from typing import Any

import pytest
from support.fake_results import metric_row

from renalnet.data.store.reader import Store
from study.evidence.analysis import inside_rule
from study.evidence.groups import contrast_groups, contrasts_hu, group_results, volume_groups
from study.records.tables import Measurement
from study.report.analysis.statistics import Settings


def rows(case: str, tumor: float, tumor_ml: float, **changes: Any) -> list[Measurement]:
    """The rows of a case by one method; a Dice of the tumor above 0.2 counts as found."""
    is_healthy = tumor_ml == 0
    about = {"volume_truth_ml": tumor_ml, "truth_empty": is_healthy, "pred_empty": is_healthy and tumor == 1}
    found = {"found": None if is_healthy else tumor > 0.2}
    return [
        Measurement(**metric_row(case, "fcn_ppm", "kidney", 0.9, **changes)),
        Measurement(**metric_row(case, "fcn_ppm", "tumor", tumor, **{**about, **found, **changes})),
    ]


def test_a_group_by_hand() -> None:
    final = [*rows("a", 0.8, 30), *rows("b", 0.1, 1.5), *rows("c", 1.0, 0), *rows("d", 0.0, 0), *rows("e", 0.5, 5)]
    final += rows("a", 0.2, 30, role="appendix", checkpoint="other")
    two, all_cases = group_results(final, {"two": ["a", "b"], "all": list("abcde")}, Settings(resamples=10))
    assert (two.num_cases, all_cases.num_cases) == (2, 5)
    assert two.dice_tumor and two.dice_tumor.mean == pytest.approx(0.45)
    assert two.dice_kidney.mean == pytest.approx(0.9)
    counts = [(rate.successes, rate.total) for rate in (all_cases.sensitivity, all_cases.sensitivity_large)]
    assert counts == [(2, 3), (2, 2)]
    assert (all_cases.specificity.successes, all_cases.specificity.total) == (1, 2)
    assert two.specificity.value is None


def test_a_group_without_measured_cases_has_no_row() -> None:
    assert group_results(rows("a", 0.8, 30), {"none": ["z"]}, Settings(resamples=10)) == []


def test_cases_with_a_tumor_by_its_volume() -> None:
    final = [*rows("a", 0.8, 1.9), *rows("b", 0.8, 2.0), *rows("c", 0.8, 60), *rows("d", 1.0, 0)]
    assert volume_groups(final) == {"0 to 2 ml": ["a"], "2 to 10 ml": ["b"], "50 ml and more": ["c"]}


def test_thirds_by_the_size_of_the_contrast() -> None:
    contrasts = {"a": -100.0, "b": 20.0, "c": -10.0, "d": 50.0}
    assert contrast_groups(contrasts) == {"10 to 20 HU": ["c", "b"], "50 to 50 HU": ["d"], "100 to 100 HU": ["a"]}
    assert contrast_groups({}) == {}


def test_contrast_and_threshold_of_a_store(ball_store: Store) -> None:
    """Kidneys of 200 HU and tumors of 60 HU with noise of 15 HU: a threshold tells them apart."""
    contrasts = contrasts_hu(ball_store)
    assert list(contrasts) == ball_store.cases("test")
    assert all(value == pytest.approx(-140, abs=5) for value in contrasts.values())
    assert all(dice > 0.99 for dice in inside_rule(ball_store).values())
