"""What the search needs from inside Optuna; no other module relies on it. Written for Optuna 5.0."""

from collections.abc import Callable, Container
from copy import copy
from typing import Any, cast

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState


def resumed_trial(storage: BaseStorage, study: optuna.Study, number: int) -> Trial:
    """Return the trial `number` of a study, which an earlier process may have asked for.

    Parameters that are not drawn yet are drawn by `study.sampler`. Optuna returns a `Trial` from `Study.ask` alone and
    does not recommend its constructor, but has no other way to resume a running trial.
    """
    study_id = storage.get_study_id_from_name(study.study_name)
    # An id counts the trials of all studies in a storage, a number those of one study.
    return Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def with_pruned(study: optuna.Study, is_pruned: Callable[[FrozenTrial], bool]) -> optuna.Study:
    """Return a view of a study for samplers, in which some of its running trials are pruned.

    Optuna's samplers learn nothing from a running trial. They read the trials of a study by `_get_trials`.

    Args:
        study: the study, which does not change.
        is_pruned: whether a running trial counts as pruned.
    """
    return cast("optuna.Study", _View(study, is_pruned))


class _View:
    def __init__(self, study: optuna.Study, is_pruned: Callable[[FrozenTrial], bool]) -> None:
        self._study = study
        self._is_pruned = is_pruned

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self,
        deepcopy: bool = True,  # noqa: ARG002 - Optuna's own signature
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: ARG002
    ) -> list[FrozenTrial]:
        trials = [self._seen(trial) for trial in self._study.get_trials(deepcopy=False)]
        return [trial for trial in trials if states is None or trial.state in states]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.RUNNING or not self._is_pruned(trial):
            return trial
        seen = copy(trial)
        seen.state = TrialState.PRUNED
        return seen
