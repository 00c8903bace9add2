"""The searcher; the tests report to it what Ray Tune would report."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from support.study_records import end, keep_checkpoint, keep_epochs, searcher

from renalnet.errors import DiskError
from study.config.sections import StudyConfig
from study.config.space import kernel_name
from study.records.results import Results
from study.records.trials import read_records, write_record
from study.search.outcome import LeaveTune


def study_of(folder: Path, network: str) -> optuna.Study:
    return optuna.load_study(
        study_name=network, storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    )


def test_first_trial_is_the_papers(tiny_study: StudyConfig, tmp_path: Path) -> None:
    first = searcher(tiny_study, tmp_path).suggest("a")
    assert isinstance(first, dict) and first["name"] == "fcn_ppm-0000"
    assert first["train"]["loss"] == {"name": "cross_entropy", "background": 0.2, "kidney": 1.0, "tumor": 2.0}
    assert first["train"]["optim"]["milestones"] == [3, 5, 7]
    assert first["ppm_kernels"] == kernel_name(tiny_study.train.net.ppm_kernels)


def test_budget_is_kept_for_each_network(tiny_study: StudyConfig, tmp_path: Path) -> None:
    search = searcher(tiny_study, tmp_path)
    names = [search.suggest(str(number)) for number in range(7)]
    assert names[-1] is None  # until they have ended
    assert [n["name"] for n in names if isinstance(n, dict)] == [
        *(f"fcn_ppm-{number:04d}" for number in range(4)),
        "unet3d-0000",
        "pspnet2d-0000",
    ]


def test_a_trial_that_cannot_write_ends_the_run_and_stays_unfinished(tiny_study: StudyConfig, tmp_path: Path) -> None:
    search = searcher(tiny_study, tmp_path)
    search.suggest("a")
    with pytest.raises(LeaveTune) as left:
        search.on_trial_result("a", {"epoch": 0, "objective": 0.0, "fault": "disk full"})
    assert isinstance(left.value.error, DiskError) and str(left.value.error) == "disk full"
    again = searcher(tiny_study, tmp_path).suggest("a")
    assert isinstance(again, dict) and again["name"] == "fcn_ppm-0000"
    (record,) = read_records(Results(str(tmp_path)))
    assert record.state == "running"


def test_a_record_that_cannot_be_written_ends_the_run(tiny_study: StudyConfig, tmp_path: Path) -> None:
    search = searcher(tiny_study, tmp_path)
    (tmp_path / "trials").write_text("a file where the folder of the trials should be")
    with pytest.raises(LeaveTune) as left:
        search.suggest("a")
    assert isinstance(left.value.error, OSError)


@pytest.mark.parametrize(
    ("objectives", "failure", "state", "in_optuna", "value"),
    [
        ((0.1, 0.7, 0.2, 0.3, 0.4), "", "complete", TrialState.COMPLETE, 0.7),
        ((0.1, 0.3), "", "pruned", TrialState.PRUNED, 0.3),
        ((0.1,), "loss not finite", "failed", TrialState.FAIL, None),
        ((), "", "failed", TrialState.FAIL, None),
    ],
)
def test_ends_are_told_and_recorded(
    tiny_study: StudyConfig,
    tmp_path: Path,
    objectives: tuple[float, ...],
    failure: str,
    state: str,
    in_optuna: TrialState,
    value: float | None,
) -> None:
    search = searcher(tiny_study, tmp_path)
    search.suggest("a")
    end(search, tmp_path, "a", "fcn_ppm-0000", *objectives, failure=failure)
    (record,) = read_records(Results(str(tmp_path)))
    assert record.state == state and record.reason
    trial = study_of(tmp_path, "fcn_ppm").trials[0]
    assert (trial.state, trial.value) == (in_optuna, value)
    assert list(trial.intermediate_values.values()) == list(objectives)


def test_a_trial_that_ray_gives_up_is_handed_out_once_more_and_then_failed(
    tiny_study: StudyConfig, tmp_path: Path
) -> None:
    search = searcher(tiny_study, tmp_path)
    first = search.suggest("a")
    search.on_trial_complete("a", None, error=True)
    assert read_records(Results(str(tmp_path)))[0].state == "running" and search.num_left == 6
    assert search.suggest("b") == first
    keep_epochs(tmp_path, "fcn_ppm-0000", [0.5])
    search.on_trial_complete("b", None, error=True)
    assert read_records(Results(str(tmp_path)))[0].state == "failed" and search.num_left == 5
    assert study_of(tmp_path, "fcn_ppm").trials[0].state == TrialState.FAIL


def test_unfinished_trials_come_first_with_the_same_point(tiny_study: StudyConfig, tmp_path: Path) -> None:
    killed = searcher(tiny_study, tmp_path)
    first, second = killed.suggest("a"), killed.suggest("b")
    end(killed, tmp_path, "a", "fcn_ppm-0000", *[0.5] * 5)
    again = searcher(tiny_study, tmp_path)
    assert again.num_left == 5
    assert again.suggest("x") == second != first and again.heard() == {}
    third = again.suggest("y")
    assert isinstance(third, dict) and third["name"] == "fcn_ppm-0002"
    end(again, tmp_path, "x", "fcn_ppm-0001", *[0.6] * 5)
    assert study_of(tmp_path, "fcn_ppm").trials[1].value == 0.6


def test_end_that_was_kept_but_not_told_is_told(tiny_study: StudyConfig, tmp_path: Path) -> None:
    searcher(tiny_study, tmp_path).suggest("a")
    keep_epochs(tmp_path, "fcn_ppm-0000", [0.2] * 5)
    (record,) = read_records(Results(str(tmp_path)))
    write_record(Results(str(tmp_path)), record.ended("complete", "all epochs trained"))
    assert searcher(tiny_study, tmp_path).num_left == 5
    assert study_of(tmp_path, "fcn_ppm").trials[0].state == TrialState.COMPLETE


def test_interrupted_search_draws_the_points_of_the_undisturbed(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"num_trials": 6})})

    def points(folder: Path, interrupt: bool) -> list[Any]:
        folder.mkdir()
        search, drawn = searcher(config, folder), []
        for number in range(6):
            drawn.append(search.suggest(str(number)))
            end(search, folder, str(number), f"fcn_ppm-{number:04d}", *[0.1 * number] * 5)
            search = searcher(config, folder) if interrupt else search
        return drawn

    assert points(tmp_path / "a", interrupt=False) == points(tmp_path / "b", interrupt=True)


def test_two_objectives(tiny_study: StudyConfig, tmp_path: Path) -> None:
    pareto = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"objective": "pareto"})})
    assert pareto.search.pruner == "none"
    search = searcher(pareto, tmp_path)
    for number in range(4):
        search.suggest(str(number))
        end(search, tmp_path, str(number), f"fcn_ppm-{number:04d}", 0.1, 0.2 + number / 10, 0.1, 0.1, 0.1)
    study = study_of(tmp_path, "fcn_ppm")
    assert [trial.values for trial in study.trials] == [[0.2 + n / 10] * 2 for n in range(4)]
    assert [trial.number for trial in study.best_trials] == [3]


def test_pruned_trial_is_kept_before_ray_ends_it(tiny_study: StudyConfig, tmp_path: Path) -> None:
    """A trial is not resumed if its driver is killed between the decision and the trial's end."""
    search = searcher(tiny_study, tmp_path)
    search.suggest("a")
    keep_epochs(tmp_path, "fcn_ppm-0000", [0.1, 0.2])
    search.on_prune("fcn_ppm-0000", 2)
    again = searcher(tiny_study, tmp_path)
    assert again.num_left == 5
    trial = study_of(tmp_path, "fcn_ppm").trials[0]
    assert trial.state == TrialState.PRUNED and trial.intermediate_values == {1: 0.1, 2: 0.2}


def test_only_the_best_keep_their_weights(tiny_study: StudyConfig, tmp_path: Path) -> None:
    few = tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"kept_models": 2})})
    search = searcher(few, tmp_path)
    for number in range(4):
        search.suggest(str(number))
        name = f"fcn_ppm-{number:04d}"
        keep_checkpoint(tmp_path, name)
        end(search, tmp_path, str(number), name, *[[0.5, 0.1, 0.3, 0.9][number]] * 5)
    weights = tmp_path.glob("trials/*/model.safetensors")
    assert {path.parent.name for path in weights} == {"fcn_ppm-0000", "fcn_ppm-0003"}


def test_a_trial_that_goes_on_says_what_was_heard_of_it(tiny_study: StudyConfig, tmp_path: Path) -> None:
    killed = searcher(tiny_study, tmp_path)
    killed.suggest("a")
    killed.on_trial_result("a", {"epoch": 1, "objective": 0.1})
    keep_epochs(tmp_path, "fcn_ppm-0000", [0.1, 0.2])
    again = searcher(tiny_study, tmp_path)
    assert again.heard() == {"fcn_ppm-0000": 1}
    suggested = again.suggest("x")
    assert isinstance(suggested, dict) and suggested["heard"] == 1
