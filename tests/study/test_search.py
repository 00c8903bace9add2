"""The searcher, told by hand what Ray Tune would tell it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from renalnet.types import NetName
from study.collect import read_records
from study.config import Slots, StudyConfig
from study.search import NetworkSearch
from study.space import kernel_name

WIDTHS: dict[NetName, int] = {"fcn_ppm": 4, "unet3d": 4, "pspnet2d": 4}


def searcher(config: StudyConfig, folder: Path) -> NetworkSearch:
    return NetworkSearch(config, str(folder), str(folder / "optuna.journal"), WIDTHS, Slots(1, 0.0, 2))


def told(epoch: int, objective: float, failure: str = "") -> dict[str, Any]:
    return {"epoch": epoch, "objective": objective, "best_objective": objective, "failure": failure}


def study_of(folder: Path, network: str) -> optuna.Study:
    return optuna.load_study(
        study_name=network, storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    )


def test_first_trial_is_the_papers(tiny_study: StudyConfig, tmp_path: Path) -> None:
    first = searcher(tiny_study, tmp_path).suggest("a")
    assert isinstance(first, dict) and first["name"] == "fcn_ppm-0000"
    assert first["train"]["loss"] == {"background": 0.2, "kidney": 1.0, "tumor": 2.0}
    assert first["train"]["optim"]["milestones"] == [3, 5, 7]
    assert first["ppm_kernels"] == kernel_name(tiny_study.train.net.ppm_kernels)


def test_budget_is_kept_for_each_network(tiny_study: StudyConfig, tmp_path: Path) -> None:
    search = searcher(tiny_study, tmp_path)
    names = [search.suggest(str(number)) for number in range(7)]
    assert names[-1] == "FINISHED"
    assert [n["name"] for n in names if isinstance(n, dict)] == [
        *(f"fcn_ppm-{number:04d}" for number in range(4)),
        "unet3d-0000",
        "pspnet2d-0000",
    ]


@pytest.mark.parametrize(
    ("result", "error", "state", "in_optuna"),
    [
        (told(5, 0.7), False, "complete", TrialState.COMPLETE),
        (told(2, 0.3), False, "pruned", TrialState.PRUNED),
        (told(1, 0.0, "loss not finite"), False, "failed", TrialState.FAIL),
        (None, True, "failed", TrialState.FAIL),
    ],
)
def test_ends_are_told_and_recorded(
    tiny_study: StudyConfig,
    tmp_path: Path,
    result: dict[str, Any] | None,
    error: bool,
    state: str,
    in_optuna: TrialState,
) -> None:
    search = searcher(tiny_study, tmp_path)
    search.suggest("a")
    if result:
        search.on_trial_result("a", result)
    search.on_trial_complete("a", result, error)
    assert [record.state for record in read_records(str(tmp_path))] == [state]
    trial = study_of(tmp_path, "fcn_ppm").trials[0]
    assert trial.state == in_optuna
    assert trial.value == (None if state == "failed" else result and result["best_objective"])


def test_unfinished_trials_come_first_with_the_same_point(tiny_study: StudyConfig, tmp_path: Path) -> None:
    killed = searcher(tiny_study, tmp_path)
    first, second = killed.suggest("a"), killed.suggest("b")
    killed.on_trial_complete("a", told(5, 0.5))
    again = searcher(tiny_study, tmp_path)
    assert again.num_left == 5
    assert again.suggest("x") == second != first
    third = again.suggest("y")
    assert isinstance(third, dict) and third["name"] == "fcn_ppm-0002"
    again.on_trial_result("x", told(1, 0.4))
    again.on_trial_complete("x", told(5, 0.6))
    assert study_of(tmp_path, "fcn_ppm").trials[1].value == 0.6


def test_interrupted_search_draws_the_points_of_the_undisturbed(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"num_trials": 6})})

    def points(folder: Path, interrupt: bool) -> list[Any]:
        folder.mkdir()
        search, drawn = searcher(config, folder), []
        for number in range(6):
            suggestion = search.suggest(str(number))
            drawn.append(suggestion)
            search.on_trial_complete(str(number), told(5, 0.1 * number))
            search = searcher(config, folder) if interrupt else search
        return drawn

    assert points(tmp_path / "a", interrupt=False) == points(tmp_path / "b", interrupt=True)
