"""What the study needs from inside Optuna, on Optuna itself: the constructor of `Trial`."""

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.search.optuna_private import resumed_trial, with_pruned


@pytest.fixture(params=["memory", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    if request.param == "memory":
        return InMemoryStorage()
    return JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))


def test_a_running_trial_is_resumed(storage: BaseStorage) -> None:
    """`Trial(study, trial_id)` draws what is missing, keeps what was drawn, and can be reported and told.

    Without it, a trial of a killed driver could not go on.
    """
    study = optuna.create_study(storage=storage, direction="maximize", sampler=RandomSampler(seed=0))
    study.tell(study.ask(), 0.5)
    drawn = study.ask().suggest_float("x", 0.0, 1.0)
    resumed = resumed_trial(storage, study, 1)
    assert resumed.number == 1 and resumed.suggest_float("x", 0.0, 1.0) == drawn
    assert 0 <= resumed.suggest_float("y", 0.0, 1.0) <= 1
    resumed.report(0.1, 1)
    study.tell(resumed, 0.7)
    trial = study.trials[1]
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 0.7, {1: 0.1})
    assert trial.params.keys() == {"x", "y"}


def test_ids_are_those_of_the_study(storage: BaseStorage) -> None:
    """`get_trial_id_from_study_id_trial_number`: a storage numbers the trials of all its studies together."""
    first, second = (optuna.create_study(storage=storage, study_name=name) for name in ("a", "b"))
    first.ask()
    asked = second.ask()
    assert resumed_trial(storage, second, 0).suggest_int("x", 1, 1) == 1
    assert second.trials[asked.number].params == {"x": 1} and first.trials[0].params == {}


def test_a_trial_that_was_not_asked_for_is_refused(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    with pytest.raises(KeyError):
        resumed_trial(storage, study, 0)


def test_samplers_see_a_running_trial_as_pruned() -> None:
    """Samplers read trials by `_get_trials`; without it, a paused trial would teach them nothing."""
    study = optuna.create_study(direction="maximize")
    for value in (0.1, 0.9):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.report(value, 1)
    view = with_pruned(study, lambda trial: trial.intermediate_values[1] > 0.5)
    read = view._get_trials(deepcopy=False, states=(TrialState.PRUNED,), use_cache=True)
    assert [trial.number for trial in read] == [1]
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 2
    assert view.direction == study.direction
    # TPE asks for ended trials through the same method.
    sampler = TPESampler(n_startup_trials=1, multivariate=True, seed=0)
    space = {"x": study.trials[0].distributions["x"]}
    assert sampler.sample_relative(study, study.trials[0], space) == {}
    assert sampler.sample_relative(view, study.trials[0], space).keys() == {"x"}
