"""Promotions, quotas and ends of pausing successive halving, worked out by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.config.sections import StudyConfig
from study.records.results import Results
from study.search.pruners.pausing import Pausing, promoted_share, ranked
from study.search.scheduler import NetworkScheduler


@pytest.fixture
def twelve(tiny_study: StudyConfig) -> StudyConfig:
    """Twelve trials, of which the best third passes a rung; rungs one and three epochs after the first milestone."""
    search = tiny_study.search.model_copy(
        update={"scheduler": "pausing", "num_trials": 12, "reduction_factor": 3, "baselines": ()}
    )
    final = tiny_study.final.model_copy(update={"num_finalists": 1})
    train = tiny_study.train.model_copy(update={"epochs": 8})
    return tiny_study.model_copy(update={"search": search, "final": final, "train": train})


class Driver:
    """Reports values of trials whose first milestone is 1, and keeps the paused ones, as the searcher does."""

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        self.paused: dict[str, int] = {}
        self.pruned: dict[str, int] = {}
        self.scheduler = NetworkScheduler(
            config, Results(str(folder)), {}, self.pruned.__setitem__, self.paused.__setitem__
        )

    def report(self, name: str, epoch: int, value: float) -> str:
        self.paused.pop(name, None)
        train = {"optim": {"milestones": [1, 2, 3]}}
        trial: Any = SimpleNamespace(config={"name": name, "network": "fcn_ppm", "train": train})
        result = {"epoch": epoch, "objective": value, "best_objective": value, "done": False}
        return self.scheduler.on_trial_result(None, trial, result)

    def next(self) -> str | None:
        return self.scheduler.next_paused("fcn_ppm", self.paused)


def test_quotas_grow_with_the_trials_that_reach_a_rung(twelve: StudyConfig, tmp_path: Path) -> None:
    driver = Driver(twelve, tmp_path)
    assert driver.report("a", 1, 0.9) == "CONTINUE"  # no rung
    assert driver.report("a", 2, 0.5) == "STOP" and driver.paused == {"a": 2}
    assert driver.report("b", 2, 0.7) == "STOP"
    assert driver.next() is None  # a third of two trials is none
    assert driver.report("c", 2, 0.6) == "STOP"
    assert driver.next() == "b"  # the best one of three
    assert driver.report("b", 3, 0.7) == "CONTINUE"
    assert driver.next() is None
    # The sixth trial is within the quota of two at once.
    assert [driver.report(name, 2, value) for name, value in (("d", 0.1), ("e", 0.2), ("f", 0.65))] == [
        "STOP",
        "STOP",
        "CONTINUE",
    ]
    assert driver.next() is None and not driver.pruned
    # b was first at the first rung, and pauses at the next one, where a third of one trial is none.
    assert driver.report("b", 4, 0.75) == "STOP" and driver.next() is None


def test_the_higher_rung_comes_first(twelve: StudyConfig, tmp_path: Path) -> None:
    driver = Driver(twelve, tmp_path)
    for number in range(9):
        driver.report(f"t{number}", 2, number / 10)
    # t5 is the best third when it comes, t6 to t8 likewise: they went on at once.
    for name in ("t6", "t7", "t8"):
        driver.report(name, 4, 0.1 if name == "t6" else 0.95)
    assert driver.next() == "t7"  # of t7 and t8, which are equal, the first by name; t5 waits at the lower rung
    driver.report("t7", 5, 0.95)
    assert driver.next() is None


def test_a_trial_beyond_every_quota_ends(twelve: StudyConfig, tmp_path: Path) -> None:
    """Of twelve trials, four pass the first rung, and one more may be the paper's point."""
    driver = Driver(twelve, tmp_path)
    for number in range(7):
        driver.report(f"t{number}", 2, 0.9 - number / 10)
    assert driver.scheduler.hopeless("fcn_ppm", driver.paused) == ["t5", "t6"]
    # Five at the first rung; two, a third of five and one more, at the second; one at a third.
    quotas = {1: 5, 3: 2, 6: 1}
    assert Pausing(twelve).most_paused(12) == sum(
        quotas[age] for age in Pausing(twelve).rungs(Pausing(twelve).new_rule())
    )


def test_the_best_paused_trials_fill_the_final_stage(twelve: StudyConfig, tmp_path: Path) -> None:
    driver = Driver(twelve, tmp_path)
    driver.report("a", 2, 0.5)
    driver.report("b", 2, 0.7)
    wanted = 2  # a finalist, and the paper's point
    assert driver.scheduler.last_paused("fcn_ppm", driver.paused, wanted - 1) == "b"
    assert driver.scheduler.last_paused("fcn_ppm", driver.paused, wanted) is None


def test_few_trials_do_not_pause(twelve: StudyConfig, tmp_path: Path) -> None:
    """With as many trials as finalists, each one is trained to its end."""
    search = twelve.search.model_copy(update={"num_trials": 2})
    driver = Driver(twelve.model_copy(update={"search": search}), tmp_path)
    assert driver.report("a", 2, 0.5) == "CONTINUE" == driver.report("b", 2, 0.1)


def test_equal_values_are_ranked_by_name() -> None:
    assert ranked({"b": 0.5, "a": 0.5, "c": 0.9}) == ["c", "a", "b"]


def test_share_by_hand(twelve: StudyConfig) -> None:
    # 12 trials to epoch 2, 4 to epoch 4, 1 to epoch 8: 24 + 8 + 4 of 96 epochs.
    assert promoted_share(12, 8, [2, 4], 3) == pytest.approx(36 / 96)
    assert promoted_share(1, 8, [], 3) == 1
    assert 0 < Pausing(twelve).expected_share(12) < 1
