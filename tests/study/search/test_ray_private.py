"""What the study needs from inside Ray, on Ray itself: each test names the attribute, and what breaks without it."""

import math

import pytest
from ray.tune.execution import tune_controller
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from study.search import ray_private


def asha() -> TrialScheduler:
    return ASHAScheduler(time_attr="age", metric="value", mode="max", max_t=10, grace_period=1, reduction_factor=2)


def median() -> TrialScheduler:
    return MedianStoppingRule(
        time_attr="age", metric="value", mode="max", grace_period=1, min_samples_required=1, min_time_slice=math.inf
    )


def test_rungs_are_those_of_the_first_bracket() -> None:
    """`ASHAScheduler._brackets[0]._rungs`, pairs of age and value by `trial_id`; `NetworkScheduler.rungs` reads it."""
    rule = asha()
    for name, value in (("a", 0.5), ("b", 0.4)):
        ray_private.add(rule, name)
        ray_private.judge(rule, name, {"age": 1, "value": value})
    assert len(rule._brackets) == 1
    assert ray_private.rungs_of(rule) == {1: {"a": 0.5, "b": 0.4}, 2: {}, 4: {}, 8: {}}


@pytest.mark.parametrize("rule", [median(), FIFOScheduler()])
def test_other_rules_have_no_rungs(rule: TrialScheduler) -> None:
    assert ray_private.rungs_of(rule) == {}


@pytest.mark.parametrize("new_rule", [asha, median])
def test_rules_need_of_a_trial_no_more_than_its_id(new_rule: type) -> None:
    """`on_trial_add` and `on_trial_result` take a stand-in with `trial_id`, and no controller; pruning needs it."""
    rule = new_rule()
    for name in ("good", "bad"):
        ray_private.add(rule, name)
    assert ray_private.judge(rule, "good", {"age": 1, "value": 0.9}) == "CONTINUE"
    assert ray_private.judge(rule, "bad", {"age": 1, "value": 0.1}) == "STOP"


def test_a_stand_in_is_the_same_trial_each_time() -> None:
    """`MedianStoppingRule` finds a trial by equality and hash; a mean over its results needs that."""
    rule = median()
    for age, value in ((1, 0.0), (2, 0.6)):
        ray_private.judge(rule, "first", {"age": age, "value": value})
    assert ray_private.judge(rule, "above the mean of 0.3", {"age": 2, "value": 0.31}) == "CONTINUE"
    assert ray_private.judge(rule, "below it", {"age": 2, "value": 0.29}) == "STOP"


def test_the_median_rule_keeps_a_completed_result_and_decides_nothing() -> None:
    """`MedianStoppingRule.on_trial_complete`; the memory of a restarted driver needs it.

    The rule refuses results of a trial that it has stopped, by an AssertionError.
    """
    rule = median()
    ray_private.judge(rule, "good", {"age": 1, "value": 0.9})
    assert ray_private.judge(rule, "bad", {"age": 1, "value": 0.1}) == "STOP"
    with pytest.raises(AssertionError):
        ray_private.judge(rule, "bad", {"age": 2, "value": 0.1})
    remembered = median()
    ray_private.complete(remembered, "good", {"age": 1, "value": 0.9})
    for age in (1, 2):
        ray_private.complete(remembered, "bad", {"age": age, "value": 0.1})
    assert ray_private.judge(remembered, "new", {"age": 1, "value": 0.4}) == "STOP"


def test_the_median_rule_counts_a_trials_own_best_from_its_first_result() -> None:
    """`MedianStoppingRule` without the age from which `study/search/pruners/median.py` counts."""
    rule = median()
    ray_private.judge(rule, "good", {"age": 1, "value": 0.5})
    assert ray_private.judge(rule, "lucky", {"age": 0, "value": 0.9}) == "CONTINUE"
    assert ray_private.judge(rule, "lucky", {"age": 1, "value": 0.1}) == "CONTINUE"


def test_lost_trials_are_logged_by_tunes_controller() -> None:
    """The logger's name; without it, Ray's traceback of each lost trial is shown again."""
    assert tune_controller.logger.name == ray_private.CONTROLLER_LOGGER
