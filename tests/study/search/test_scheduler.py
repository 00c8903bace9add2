from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.study_records import TRAIN, keep_epochs

from study.config.sections import StudyConfig
from study.records.results import Results
from study.records.trials import TrialRecord, write_record
from study.search.scheduler import NetworkScheduler

STEP_AT_1 = {**TRAIN, "optim": {"milestones": [1, 2, 3]}}
"""A training configuration with which a trial has the age of one epoch after its second epoch."""


def decide(asha: NetworkScheduler, name: str, epoch: int, objective: float) -> str:
    config = {"name": name, "network": name.rsplit("-", 1)[0], "train": STEP_AT_1}
    trial: Any = SimpleNamespace(config=config, trial_id="ray's own")
    return asha.on_trial_result(
        None, trial, {"epoch": epoch, "objective": objective, "best_objective": objective, "done": False}
    )


def scheduler(
    config: StudyConfig, folder: Path, pruned: dict[str, int] | None = None, heard: dict[str, int] | None = None
) -> NetworkScheduler:
    return NetworkScheduler(
        config, Results(str(folder)), heard or {}, ({} if pruned is None else pruned).__setitem__, lambda *_: None
    )


def keep(results: Path, name: str, objectives: list[float]) -> None:
    network, number = name.rsplit("-", 1)
    write_record(Results(str(results)), TrialRecord(int(number), network, "running", {}, STEP_AT_1))
    keep_epochs(results, name, objectives)


def test_worse_trial_stops_at_the_rung(tiny_study: StudyConfig, tmp_path: Path) -> None:
    asha = scheduler(tiny_study, tmp_path)
    assert decide(asha, "fcn_ppm-0000", 1, 0.1) == "CONTINUE"
    assert decide(asha, "fcn_ppm-0000", 2, 0.5) == "CONTINUE"
    assert decide(asha, "fcn_ppm-0001", 1, 0.0) == "CONTINUE"
    assert decide(asha, "fcn_ppm-0001", 2, 0.4) == "STOP"
    assert decide(asha, "fcn_ppm-0002", 2, 0.6) == "CONTINUE"


def test_the_papers_point_is_judged_but_goes_on(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """The paper's first milestone is 3, so that its trial is judged at its epoch 4, as the others at their epoch 2."""
    pruned: dict[str, int] = {}
    asha = scheduler(tiny_study, tmp_path, pruned)
    decide(asha, "fcn_ppm-0001", 2, 0.6)
    values = {"epoch": 4, "objective": 0.1, "best_objective": 0.1, "done": False}
    for name, decision in (("fcn_ppm-0000", "CONTINUE"), ("fcn_ppm-0002", "STOP")):
        config = {"name": name, "network": "fcn_ppm", "train": {**TRAIN, "optim": {"milestones": [3, 5, 7]}}}
        trial: Any = SimpleNamespace(config=config)
        assert asha.on_trial_result(None, trial, values) == decision
    assert asha.rungs()["fcn_ppm"][1] == {"fcn_ppm-0001": 0.6, "fcn_ppm-0000": 0.1, "fcn_ppm-0002": 0.1}
    assert pruned == {"fcn_ppm-0002": 4}


def test_networks_do_not_compete(tiny_study: StudyConfig, tmp_path: Path) -> None:
    asha = scheduler(tiny_study, tmp_path)
    decide(asha, "fcn_ppm-0000", 2, 0.9)
    assert decide(asha, "unet3d-0000", 2, 0.1) == "CONTINUE"


def test_last_epoch_is_no_stop(tiny_study: StudyConfig, tmp_path: Path) -> None:
    asha = scheduler(tiny_study, tmp_path)
    assert [decide(asha, "fcn_ppm-0000", epoch, 0.5) for epoch in range(1, 6)] == ["CONTINUE"] * 5


def test_rungs_survive_the_driver(tiny_study: StudyConfig, tmp_path: Path) -> None:
    curves = {"fcn_ppm-0000": [0.1, 0.5, 0.6, 0.7], "fcn_ppm-0001": [0.2, 0.3], "unet3d-0000": [0.1]}
    before = scheduler(tiny_study, tmp_path)
    for name, objectives in curves.items():
        keep(tmp_path, name, objectives)
        for epoch, objective in enumerate(objectives, start=1):
            decide(before, name, epoch, objective)
    after = scheduler(tiny_study, tmp_path)
    assert after.rungs() == before.rungs()
    assert after.rungs()["fcn_ppm"][1] == {"fcn_ppm-0000": 0.5, "fcn_ppm-0001": 0.3}
    assert decide(after, "fcn_ppm-0002", 2, 0.4) == "STOP"


def test_prunes_are_told_before_ray_knows(tiny_study: StudyConfig, tmp_path: Path) -> None:
    pruned: dict[str, int] = {}
    asha = scheduler(tiny_study, tmp_path, pruned)
    decide(asha, "fcn_ppm-0000", 2, 0.5)
    decide(asha, "fcn_ppm-0001", 2, 0.4)
    assert pruned == {"fcn_ppm-0001": 2}


def test_a_failed_trial_and_a_last_epoch_are_on_no_rung(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """A new driver rebuilds the rungs of the old driver, which did not judge these epochs."""
    keep(tmp_path, "fcn_ppm-0000", [0.5, 0.6, 0.7, 0.8, 0.9])
    write_record(Results(str(tmp_path)), TrialRecord(1, "fcn_ppm", "failed", {}, STEP_AT_1))
    keep_epochs(tmp_path, "fcn_ppm-0001", [0.9], failure="loss not finite")
    longest = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"grace_epochs": 4})})
    assert scheduler(tiny_study, tmp_path).rungs()["fcn_ppm"] == {1: {"fcn_ppm-0000": 0.6}, 3: {"fcn_ppm-0000": 0.8}}
    assert scheduler(longest, tmp_path).rungs()["fcn_ppm"] == {4: {}}


def test_median_rule_and_its_memory(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """Three trials at 0.5, 0.6, 0.7: the median of their means at epoch 2 is 0.6."""
    search = {"scheduler": "median"}
    config = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update=search)})
    for number, value in enumerate([0.5, 0.6, 0.7]):
        keep(tmp_path, f"fcn_ppm-{number:04d}", [value] * 4)
    median = scheduler(config, tmp_path)
    assert [decide(median, "fcn_ppm-0003", epoch, 0.59) for epoch in (1, 2)] == ["CONTINUE", "STOP"]
    assert [decide(median, "fcn_ppm-0004", epoch, 0.61) for epoch in (1, 2)] == ["CONTINUE", "CONTINUE"]
    assert decide(median, "unet3d-0000", 2, 0.1) == "CONTINUE" and median.rungs() == {}


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_lucky_epoch_before_the_grace_age_protects_no_trial(
    tiny_study: StudyConfig, tmp_path: Path, is_resumed: bool
) -> None:
    """The trial has 0.9 at the age of 0, then 0.1; the median at the age of 1 is 0.6."""
    search = tiny_study.search.model_copy(update={"scheduler": "median"})
    for number, value in enumerate([0.5, 0.6, 0.7]):
        keep(tmp_path, f"fcn_ppm-{number:04d}", [value] * 4)
    if is_resumed:
        keep(tmp_path, "fcn_ppm-0003", [0.9])
    median = scheduler(tiny_study.model_copy(update={"search": search}), tmp_path, heard={"fcn_ppm-0003": 1})
    if not is_resumed:
        assert decide(median, "fcn_ppm-0003", 1, 0.9) == "CONTINUE"
    assert decide(median, "fcn_ppm-0003", 2, 0.1) == "STOP"


def test_the_best_epoch_since_the_grace_age_counts(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """The rule of Golovin et al.: the best objective so far is compared, not the last one."""
    search = tiny_study.search.model_copy(update={"scheduler": "median"})
    for number, value in enumerate([0.5, 0.6, 0.7]):
        keep(tmp_path, f"fcn_ppm-{number:04d}", [value] * 4)
    median = scheduler(tiny_study.model_copy(update={"search": search}), tmp_path)
    objectives = (0.1, 0.65, 0.1)
    assert [decide(median, "fcn_ppm-0003", n, value) for n, value in enumerate(objectives, 1)] == ["CONTINUE"] * 3


def test_nobody_prunes_two_objectives(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"objective": "pareto"})})
    none = scheduler(config, tmp_path)
    assert [decide(none, f"fcn_ppm-{n:04d}", 2, 0.9 - n / 10) for n in range(5)] == ["CONTINUE"] * 5


def test_an_epoch_that_nobody_judged_is_judged(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """The old driver died before epoch 2 was reported; the new driver judges that epoch once."""
    keep(tmp_path, "fcn_ppm-0000", [0.5] * 5)
    keep(tmp_path, "fcn_ppm-0001", [0.4, 0.4])
    unjudged = scheduler(tiny_study, tmp_path, heard={"fcn_ppm-0001": 1})
    assert unjudged.rungs()["fcn_ppm"][1] == {"fcn_ppm-0000": 0.5}
    assert decide(unjudged, "fcn_ppm-0001", 2, 0.4) == "STOP"
    judged = scheduler(tiny_study, tmp_path, heard={"fcn_ppm-0001": 2})
    assert decide(judged, "fcn_ppm-0001", 2, 0.4) == "CONTINUE"


def test_trials_are_compared_at_the_same_distance_from_their_step(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """A trial with its first milestone at 3 is judged at epoch 4, and compared with others at their epoch 2."""
    asha = scheduler(tiny_study, tmp_path)
    decide(asha, "fcn_ppm-0000", 2, 0.5)
    late: Any = SimpleNamespace(
        config={"name": "fcn_ppm-0001", "network": "fcn_ppm", "train": {"optim": {"milestones": [3, 4, 5]}}}
    )
    values = {"objective": 0.4, "best_objective": 0.4, "done": False}
    decisions = [asha.on_trial_result(None, late, {"epoch": epoch, **values}) for epoch in range(1, 5)]
    assert decisions == ["CONTINUE", "CONTINUE", "CONTINUE", "STOP"]
