"""How much each searched parameter decides the objective, by Optuna's PED-ANOVA (Watanabe et al., 2023)."""

import warnings
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from study.records.parquet import write_rows
from study.records.results import Results
from study.records.tables import Importance
from study.search.extension import EPOCHS, network_of
from study.search.journal import read_journal

EVALUATOR: Final = "PED-ANOVA"
_MIN_TRIALS: Final = 4
"""The evaluator compares the best tenth of the trials, at least two, with all of them; two must be at most half."""


def write_importances(results: Results, epochs: int) -> None:
    """Write `importances.parquet` from the journal of a results folder, one row per network and searched parameter.

    Args:
        results: the results folder.
        epochs: length of the trials. A study that was extended also has shorter trials, which are not comparable.
    """
    journal = read_journal(results)
    studies = [optuna.load_study(study_name=name, storage=journal) for name in optuna.get_all_study_names(journal)]
    rows = [row for study in studies if study.user_attrs.get(EPOCHS) == epochs for row in importance_rows(study)]
    write_rows(results.importances_path, rows)


def importance_rows(study: optuna.Study) -> list[Importance]:
    """Return the importances of a network's parameters, which sum to 1.

    Only trials that trained all their epochs count: a pruned trial was judged at another epoch and is not comparable.
    Only parameters count that all these trials have and whose values differ. The result is empty with fewer than four
    such trials, with equal objectives, or without such a parameter.
    """
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    searched = _varying(whole)
    if len(whole) < _MIN_TRIALS or not searched or len({_loss(trial) for trial in whole}) == 1:
        return []
    network = network_of(study)
    return [
        Importance(network, EVALUATOR, len(whole), parameter, importance)
        for parameter, importance in _importances(study, searched).items()
    ]


def _varying(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that all trials have and whose values differ."""
    names = set.intersection(*(set(trial.params) for trial in trials)) if trials else set[str]()
    return sorted(name for name in names if len({trial.params[name] for trial in trials}) > 1)


def _importances(study: optuna.Study, searched: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        # Optuna warns that a target may point the wrong way; `_loss` is negated, since the evaluator seeks low values.
        warnings.simplefilter("ignore", UserWarning)
        evaluator = PedAnovaImportanceEvaluator()
        found: dict[str, float] = get_param_importances(study, evaluator=evaluator, params=searched, target=_loss)
    return found


def _loss(trial: FrozenTrial) -> float:
    """Return the negative mean Dice of the labels, also where these are separate objectives."""
    return -fmean(trial.values)
