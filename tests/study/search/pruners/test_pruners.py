"""Rules that every pruner of the table keeps, and the expected share of ASHA by hand and beside Ray's own."""

from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from ray.tune.schedulers import ASHAScheduler

from study.config.catalogue import PRUNERS
from study.config.sections import StudyConfig
from study.records.results import Results
from study.search.pruner import Pruner, make_pruner
from study.search.pruners.asha import halving_share
from study.search.scheduler import NetworkScheduler


def with_pruner(config: StudyConfig, name: str) -> StudyConfig:
    return config.model_copy(update={"search": config.search.model_copy(update={"scheduler": name})})


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_speaks_for_itself(tiny_study: StudyConfig, name: str) -> None:
    assert issubclass(resolve_name(PRUNERS[name]), Pruner)
    pruner = make_pruner(with_pruner(tiny_study, name))
    share = pruner.expected_share(4)
    assert share is None or 0 < share <= 1
    assert "\n" not in pruner.describe() and "epoch 3" in pruner.reason(3)


@pytest.mark.parametrize("name", PRUNERS)
def test_the_better_of_many_trials_goes_on(tiny_study: StudyConfig, tmp_path: Path, name: str) -> None:
    """Twenty trials of 0.1 to 0.9, one after the other: each one is the best so far, and none is pruned.

    One that pauses has no quota yet: the first one of four goes on.
    """
    pruned: dict[str, int] = {}
    paused: dict[str, int] = {}
    config = with_pruner(tiny_study, name)
    scheduler = NetworkScheduler(config, Results(str(tmp_path)), {}, pruned.__setitem__, paused.__setitem__)
    names = [f"fcn_ppm-{number:04d}" for number in range(20)]
    for trial_name, value in zip(names, np.linspace(0.1, 0.9, 20), strict=True):
        about = {"name": trial_name, "network": "fcn_ppm", "train": {"optim": {"milestones": [1, 2, 3]}}}
        for epoch in range(1, tiny_study.train.epochs):
            result = {"epoch": epoch, "objective": value, "best_objective": value, "done": False}
            if scheduler.on_trial_result(None, SimpleNamespace(config=about), result) == "STOP":
                break
    assert not pruned and names[-1] not in paused
    assert bool(paused) == (name == "pausing")


@pytest.mark.parametrize(("name", "share"), [("none", 1.0), ("median", None)])
def test_share_of_the_simple_pruners(tiny_study: StudyConfig, name: str, share: float | None) -> None:
    assert make_pruner(with_pruner(tiny_study, name)).expected_share(4) == share


def test_reasons(tiny_study: StudyConfig) -> None:
    reasons = {name: make_pruner(with_pruner(tiny_study, name)).reason(2) for name in ("asha", "median")}
    assert reasons == {
        "asha": "not among the best 1/3 of its network's trials at epoch 2",
        "median": "below the median of its network's trials at epoch 2",
    }


@pytest.mark.parametrize(
    ("num_trials", "epochs", "rungs", "factor", "share"),
    [
        (1, 9, [3], 3, 1.0),  # the first at a rung always goes on
        (2, 9, [3], 3, (2 * 3 + 1.5 * 6) / 18),  # the second goes on with a probability of 1/2
        (3, 9, [3, 6], 2, (3 * 3 + 2 * 3 + 1.5 * 3) / 27),  # 1 + 1/2 + 1/2 pass the first rung, 1 + 1/2 the second
        (64, 9, [], 3, 1.0),
    ],
)
def test_share_of_epochs_by_hand(num_trials: int, epochs: int, rungs: list[int], factor: int, share: float) -> None:
    assert halving_share(num_trials, epochs, rungs, factor) == pytest.approx(share)


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "rungs", "most_below"), [(9, [3], 0.02), (27, [3, 9], 0.1)])
def test_share_of_epochs_is_that_of_rays_own_halving(epochs: int, rungs: list[int], most_below: float) -> None:
    generator = np.random.default_rng(0)
    trained = [count for _ in range(200) for count in halved(generator.random(64), epochs)]
    assert halving_share(64, epochs, rungs, 3) == pytest.approx(np.mean(trained) / epochs, rel=most_below)


def halved(values: NDArray[np.float64], epochs: int) -> Iterator[int]:
    """Yield the epochs that Ray lets trials train, one after the other; a trial has the same value in each epoch."""
    halving = ASHAScheduler(time_attr="t", metric="v", mode="max", max_t=epochs + 1, grace_period=3, reduction_factor=3)
    for number, value in enumerate(values):
        trial = SimpleNamespace(trial_id=str(number))
        halving.on_trial_add(None, trial)
        decisions = (halving.on_trial_result(None, trial, {"t": t, "v": value}) for t in range(1, epochs + 1))
        yield next((t for t, decision in enumerate(decisions, 1) if decision == "STOP"), epochs)


def test_share_of_epochs_in_the_long_run() -> None:
    assert halving_share(10**6, 9, [3], 3) == pytest.approx((3 + 6 / 3) / 9, rel=1e-3)
