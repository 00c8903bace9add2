"""How much each searched value decides of a trial's objective, by Optuna's PED-ANOVA (Watanabe et al., 2023)."""

import warnings
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final, TypeAlias

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from renalnet.runtime import storage
from study.records import paths
from study.records.trials import write_parquet
from study.search.extension import EPOCHS
from study.search.journal import read_journal

Row: TypeAlias = dict[str, Any]
EVALUATOR: Final = "PED-ANOVA"
_MIN_TRIALS: Final = 4
"""The evaluator sets the best tenth, two trials at least, against all: of fewer than four that is half of them."""


def write_importances(results: str, epochs: int) -> None:
    """Write `importances.parquet` from the journal of a results folder, a row a network and searched value.

    Args:
        results: the results folder.
        epochs: length of the trials; a study that was extended has shorter ones as well, which do not compare.
    """
    journal = read_journal(results)
    studies = [optuna.load_study(study_name=name, storage=journal) for name in optuna.get_all_study_names(journal)]
    rows = [row for study in studies if study.user_attrs.get(EPOCHS) == epochs for row in importance_rows(study)]
    write_parquet(storage.join(results, paths.IMPORTANCES_TABLE), rows)


def importance_rows(study: optuna.Study) -> list[Row]:
    """Of the trials that trained all their epochs; pruned ones were judged at other epochs and do not compare.

    Values that all of these trials have, and that differ between them, take part; the importances of a network sum to
    1. No rows of fewer than four whole trials, or where all did equally well, or no value differs.
    """
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    searched = _varying(whole)
    if len(whole) < _MIN_TRIALS or not searched or len({_loss(trial) for trial in whole}) == 1:
        return []
    network = study.study_name.split("-")[0]
    about = {"network": network, "evaluator": EVALUATOR, "num_trials": len(whole)}
    return [{**about, "parameter": name, "importance": value} for name, value in _importances(study, searched).items()]


def _varying(trials: Sequence[FrozenTrial]) -> list[str]:
    names = set.intersection(*(set(trial.params) for trial in trials)) if trials else set[str]()
    return sorted(name for name in names if len({trial.params[name] for trial in trials}) > 1)


def _importances(study: optuna.Study, searched: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a target: the evaluator asks what makes it low
        evaluator = PedAnovaImportanceEvaluator()
        found: dict[str, float] = get_param_importances(study, evaluator=evaluator, params=searched, target=_loss)
    return found


def _loss(trial: FrozenTrial) -> float:
    """Less the mean Dice of kidney and tumor, also where the two are searched apart."""
    return -fmean(trial.values)
