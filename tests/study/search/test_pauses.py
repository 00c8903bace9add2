"""Paused trials of the searcher and its scheduler together, with Ray Tune's part played by the test."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from support.study_records import keep_epochs, searcher

from study.config.sections import StudyConfig
from study.records.results import Results
from study.records.trials import read_epochs, read_records
from study.search.pruner import HEARD
from study.search.searcher import NetworkSearch

NUM_EPOCHS: Final = 8


@pytest.fixture(params=["random", "tpe", "gp"])
def pausing(tiny_study: StudyConfig, request: pytest.FixtureRequest) -> StudyConfig:
    """Ten trials with rungs one and two epochs after their first milestone; half of them pass, two become finalists."""
    search = tiny_study.search.model_copy(
        update={
            "scheduler": "pausing",
            "sampler": request.param,
            "num_trials": 10,
            "reduction_factor": 2,
            "num_startup_trials": 3,
            "baselines": (),
        }
    )
    final = tiny_study.final.model_copy(update={"num_finalists": 1})
    space = tiny_study.space.model_copy(update={"first_step": (1, 3)})
    train = tiny_study.train.model_copy(update={"epochs": NUM_EPOCHS})
    return tiny_study.model_copy(update={"search": search, "final": final, "space": space, "train": train})


def curve(name: str) -> list[float]:
    """Return the objectives of a trial, which depend on its name only."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    return (rng.uniform(0.2, 0.8) + rng.uniform(0, 0.02, NUM_EPOCHS).cumsum()).round(4).tolist()


@dataclass
class Driver:
    """Ray Tune with one slot. At the given actions it is killed, and a new driver goes on with the files."""

    config: StudyConfig
    folder: Path
    kills: Collection[int] = ()
    num_actions: int = 0
    trained: list[tuple[str, int]] = field(default_factory=list)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> None:
        while not self._run_one_driver():
            pass

    def _run_one_driver(self) -> bool:
        """Return whether the search has ended; False where the driver was killed."""
        search = searcher(self.config, self.folder)
        if search.num_left == 0:
            return True
        while True:
            suggested = search.suggest("the only slot")
            if suggested == Searcher.FINISHED:
                return True
            assert isinstance(suggested, dict)
            if self._is_killed() or not self._run_trial(search, suggested):
                return False

    def _run_trial(self, search: NetworkSearch, config: dict[str, Any]) -> bool:
        """Train and report epochs until the trial leaves its slot. Return False where the driver was killed."""
        name = config["name"]
        point = {key: value for key, value in config.items() if key not in (HEARD, "train")}
        assert self.points.setdefault(name, point) == point
        objectives = curve(name)
        for epoch in range(config[HEARD] + 1, NUM_EPOCHS + 1):
            done = len(read_epochs(Results(str(self.folder)), name))
            if epoch > done:
                keep_epochs(self.folder, name, objectives[:epoch])
                self.trained.append((name, epoch))
            if self._is_killed():
                return False
            result = {
                "epoch": epoch,
                "objective": objectives[epoch - 1],
                "best_objective": max(objectives[:epoch]),
                "done": epoch == NUM_EPOCHS,
            }
            decision = search.scheduler.on_trial_result(None, SimpleNamespace(config=config), result)
            if self._is_killed():
                return False
            if decision == TrialScheduler.STOP or result["done"]:
                search.on_trial_complete("the only slot", result)
                return not self._is_killed()
            search.on_trial_result("the only slot", result)
        raise AssertionError("a trial of the last epoch ends")

    def _is_killed(self) -> bool:
        self.num_actions += 1
        return self.num_actions in self.kills

    def states(self) -> dict[str, str]:
        return {record.name: record.state for record in read_records(Results(str(self.folder)))}


def test_trials_pause_and_go_on(pausing: StudyConfig, tmp_path: Path) -> None:
    driver = Driver(pausing, tmp_path)
    driver.run()
    states = driver.states()
    assert len(states) == 10 and set(states.values()) == {"complete", "pruned"}
    names = [name for name, _ in driver.trained]
    # Trials went on after others had trained in between, and every epoch was trained once and in order.
    assert len(list(groupby(names))) > len(set(names))
    assert len(set(driver.trained)) == len(driver.trained)
    for name in states:
        assert [epoch for trial, epoch in driver.trained if trial == name] == list(range(1, names.count(name) + 1))
    complete = {name for name, state in states.items() if state == "complete"}
    assert all(names.count(name) == NUM_EPOCHS for name in complete)
    # The paper's point, if it is one of them, and at least one finalist more.
    assert len(complete) >= 2
    best = max(states, key=lambda name: max(curve(name)[:4]))
    assert best in complete


@pytest.mark.slow  # seconds: a driver for each moment
def test_a_kill_at_any_moment_changes_nothing(pausing: StudyConfig, tmp_path: Path) -> None:
    whole = Driver(pausing, tmp_path / "whole")
    whole.run()
    moments = np.random.default_rng(0).permutation(whole.num_actions)[:12] + 1
    for moment in moments.tolist():
        killed = Driver(pausing, tmp_path / str(moment), {moment})
        killed.run()
        assert (killed.trained, killed.points, killed.states()) == (whole.trained, whole.points, whole.states())


def test_many_kills_change_nothing(pausing: StudyConfig, tmp_path: Path) -> None:
    whole = Driver(pausing, tmp_path / "whole")
    whole.run()
    killed = Driver(pausing, tmp_path / "killed", range(5, 1000, 9))
    killed.run()
    assert (killed.trained, killed.points, killed.states()) == (whole.trained, whole.points, whole.states())
