"""What the search needs from inside Optuna; no other module relies on it. Written for Optuna 5.0."""

import optuna
from optuna.storages import BaseStorage
from optuna.trial import Trial


def resumed_trial(storage: BaseStorage, study: optuna.Study, number: int) -> Trial:
    """Return the trial `number` of a study, which an earlier process may have asked for.

    Parameters that are not drawn yet are drawn by `study.sampler`. Optuna returns a `Trial` from `Study.ask` alone and
    does not recommend its constructor, but has no other way to resume a running trial.
    """
    study_id = storage.get_study_id_from_name(study.study_name)
    # An id counts the trials of all studies in a storage, a number those of one study.
    return Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))
