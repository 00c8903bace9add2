"""Extended and narrowed studies; the tests report to the searcher what Ray Tune would report."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from support.study_records import end, keep_checkpoint, searcher

from study.config.sections import StudyConfig
from study.records.results import Results
from study.records.trials import TrialRecord, find_record
from study.search import extension

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


def changed(config: StudyConfig, **sections: dict[str, object]) -> StudyConfig:
    update = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=update)


def states(folder: Path, name: str) -> list[TrialState]:
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return [trial.state for trial in optuna.load_study(study_name=name, storage=storage).trials]


@pytest.fixture
def ended(tiny_study: StudyConfig, tmp_path: Path) -> StudyConfig:
    """A study with four trials: complete with checkpoint, complete without, pruned at epoch 2, failed."""
    search = searcher(tiny_study, tmp_path)
    for number, (objectives, failure) in enumerate(
        [([0.3, 0.7, 0.6, 0.5, 0.4], ""), ([0.2] * 5, ""), ([0.1, 0.1], ""), ([0.1], "loss not finite")]
    ):
        search.suggest(str(number))
        end(search, tmp_path, str(number), f"fcn_ppm-{number:04d}", *objectives, failure=failure)
    keep_checkpoint(tmp_path, "fcn_ppm-0000")
    return tiny_study


def test_more_trials(ended: StudyConfig, tmp_path: Path) -> None:
    search = searcher(changed(ended, search={"num_trials": 6}), tmp_path)
    names = [
        suggested["name"] for suggested in (search.suggest("a"), search.suggest("b")) if isinstance(suggested, dict)
    ]
    assert names == ["fcn_ppm-0004", "fcn_ppm-0005"]
    assert states(tmp_path, "fcn_ppm")[:4] == [COMPLETE, COMPLETE, PRUNED, FAIL]


def test_fewer_trials_than_have_run_are_those_that_have_run(ended: StudyConfig, tmp_path: Path) -> None:
    search = searcher(changed(ended, search={"num_trials": 2, "baselines": ()}), tmp_path)
    assert (search.num_planned, search.num_left) == (4, 0)


def test_longer_trials(ended: StudyConfig, tmp_path: Path) -> None:
    longer = changed(ended, train={"epochs": 8}, search={"baselines": ()})
    search = searcher(longer, tmp_path)
    assert states(tmp_path, "fcn_ppm") == [COMPLETE, COMPLETE, PRUNED, FAIL]
    assert states(tmp_path, "fcn_ppm-8-epochs") == [RUNNING, PRUNED, PRUNED, FAIL]
    assert search.num_left == 1
    first = search.suggest("x")
    assert isinstance(first, dict) and first["name"] == "fcn_ppm-0000" and first["train"]["epochs"] == 8
    end(search, tmp_path, "x", "fcn_ppm-0000", 0.3, 0.7, 0.6, 0.5, 0.4, 0.5, 0.8, 0.1)
    assert search.suggest("y") == "FINISHED"
    assert states(tmp_path, "fcn_ppm-8-epochs")[0] == COMPLETE
    deleted = find_record(Results(str(tmp_path)), "fcn_ppm-0001")
    assert deleted is not None and (deleted.state, deleted.train["epochs"]) == ("pruned", 8)
    assert "weights were deleted before trials became 8 epochs long" in deleted.reason


def test_driver_killed_while_it_lengthens(ended: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = changed(ended, train={"epochs": 8})
    real, calls = extension.write_record, []

    def killed(results: Results, record: TrialRecord) -> None:
        calls.append(record.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(results, record)

    monkeypatch.setattr(extension, "write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        searcher(longer, tmp_path)
    monkeypatch.setattr(extension, "write_record", real)
    searcher(longer, tmp_path)
    assert states(tmp_path, "fcn_ppm-8-epochs") == [RUNNING, PRUNED, PRUNED, FAIL]


@pytest.mark.parametrize("num_added", [1, 2, 4])
def test_driver_killed_while_it_lengthens_to_a_length_that_is_given_up(
    ended: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_added: int
) -> None:
    """The next, longer study starts from the last study that is whole."""
    real, added = optuna.Study.add_trial, []

    def killed(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if len(added) == num_added:
            raise KeyboardInterrupt
        added.append(trial)
        real(study, trial)

    monkeypatch.setattr(optuna.Study, "add_trial", killed)
    half = changed(ended, train={"epochs": 8}, search={"baselines": ()})
    if num_added < 4:
        with pytest.raises(KeyboardInterrupt):
            searcher(half, tmp_path)
    else:
        searcher(half, tmp_path)
    monkeypatch.setattr(optuna.Study, "add_trial", real)
    search = searcher(changed(half, train={"epochs": 10}), tmp_path)
    assert states(tmp_path, "fcn_ppm-10-epochs") == [RUNNING, PRUNED, PRUNED, FAIL]
    assert search.num_left == 1


def test_a_trial_that_runs_goes_on_in_the_longer_study_alone(tiny_study: StudyConfig, tmp_path: Path) -> None:
    search = searcher(changed(tiny_study, search={"baselines": ()}), tmp_path)
    for name in ("a", "b"):
        search.suggest(name)
    search.on_trial_result("a", {"epoch": 1, "objective": 0.1})
    searcher(changed(tiny_study, train={"epochs": 8}, search={"baselines": ()}), tmp_path)
    assert states(tmp_path, "fcn_ppm")[:2] == [PRUNED, FAIL]
    assert states(tmp_path, "fcn_ppm-8-epochs") == [RUNNING, RUNNING]


@pytest.mark.slow
def test_narrower_space(ended: StudyConfig, tmp_path: Path) -> None:
    narrow = changed(ended, search={"num_trials": 12}, space={"tumor_weight": (1.0, 1.5), "kernel_sets": ((1,),)})
    search = searcher(narrow, tmp_path)
    for number in range(8):
        suggested = search.suggest(str(number))
        assert isinstance(suggested, dict) and 1 <= suggested["tumor_weight"] <= 1.5
        assert suggested["train"]["net"]["ppm_kernels"] == [1]
        end(search, tmp_path, str(number), suggested["name"], *[0.5] * 5)
    assert states(tmp_path, "fcn_ppm")[4:] == [COMPLETE] * 8
