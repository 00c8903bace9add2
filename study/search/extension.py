"""Going on with a search whose trials have become longer.

Optuna cannot take back a finished trial, and values of nine epochs are no values of twelve. So longer trials are an
Optuna study of their own, that starts with every trial of the shorter one under the same number: a pruned one stays
pruned, a failed one failed, and a finished one is, seen from the new length, a trial that stands at its last epoch.
It goes on from there if its checkpoint was kept, and counts as pruned there if not. The shorter study stays as it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from renalnet.config import NetName
from renalnet.train.checkpoint import has_checkpoint
from study.config.sections import StudyConfig
from study.records import paths
from study.records.trials import State, TrialRecord, find_record, write_record
from study.search.samplers import CHOICES, first_choices
from study.config.space import Domain, first_point

EPOCHS: Final = "epochs"
"""Attribute of an Optuna study: the length of its trials."""
_WHOLE: Final = "whole"
"""Attribute of an Optuna study whose beginning was written to its end."""


def open_study(
    storage: BaseStorage, config: StudyConfig, results: str, network: NetName, searched: Mapping[str, Domain]
) -> optuna.Study:
    """A network's Optuna study for trials of `config.train.epochs`: found, begun, or begun with shorter trials."""
    earlier = _studies_of(storage, network)
    found = next((study for study in earlier if study.user_attrs[EPOCHS] == config.train.epochs), None)
    if found is not None and found.user_attrs.get(_WHOLE):
        return found
    study = found or _create(storage, config, network, is_first=not earlier)
    whole = [other for other in earlier if other.user_attrs.get(_WHOLE)]  # not one whose driver was killed beginning it
    shorter = [other for other in whole if other.user_attrs[EPOCHS] < config.train.epochs]
    if shorter:
        longest = max(shorter, key=lambda other: int(other.user_attrs[EPOCHS]))
        _take_over(longest, study, results, config.train.epochs)
        study.set_user_attr(CHOICES, longest.user_attrs[CHOICES])
    else:
        study.set_user_attr(CHOICES, first_choices(searched))
        point = first_point(config.train, config.space, network)
        if point is not None:
            study.enqueue_trial(point, skip_if_exists=True)
    study.set_user_attr(_WHOLE, True)
    return study


def _studies_of(storage: BaseStorage, network: NetName) -> list[optuna.Study]:
    names = optuna.get_all_study_names(storage)
    own = [name for name in names if name == network or name.startswith(f"{network}-")]
    found = [optuna.load_study(study_name=name, storage=storage) for name in own]
    return [study for study in found if EPOCHS in study.user_attrs]


def _create(storage: BaseStorage, config: StudyConfig, network: NetName, *, is_first: bool) -> optuna.Study:
    study = optuna.create_study(
        study_name=network if is_first else f"{network}-{config.train.epochs}-epochs",
        storage=storage,
        directions=["maximize"] * (2 if config.search.objective == "pareto" else 1),
        load_if_exists=True,
    )
    study.set_user_attr(EPOCHS, config.train.epochs)
    return study


def _take_over(shorter: optuna.Study, study: optuna.Study, results: str, epochs: int) -> None:
    """Add what is not there yet of the shorter study's trials, in their order, and lengthen their records."""
    for frozen in shorter.get_trials(deepcopy=False)[len(study.get_trials(deepcopy=False)) :]:
        record = find_record(results, paths.trial_name(study.study_name.split("-")[0], frozen.number))
        if record is None:  # enqueued, or drawn and never begun
            study.add_trial(_copy(frozen, frozen.state))
        else:
            longer = _lengthened(record, results, epochs)
            write_record(results, longer)
            study.add_trial(_copy(frozen, _STATES[longer.state]))
    for frozen in shorter.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        state = TrialState.PRUNED if frozen.intermediate_values else TrialState.FAIL
        shorter.tell(frozen.number, state=state)  # it goes on in the longer study alone


def _lengthened(record: TrialRecord, results: str, epochs: int) -> TrialRecord:
    """A trial's record under the new length."""
    record = replace(record, train={**record.train, "epochs": epochs})
    if record.state != "complete":
        return record
    if has_checkpoint(paths.trial_folder(results, record.name)):
        return record.ended("running", "")
    return record.ended("pruned", f"its weights were let go before trials became {epochs} epochs long")


_STATES: dict[State, TrialState] = {
    "running": TrialState.RUNNING,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""A complete trial of the shorter study is never complete in the longer one."""


def _copy(frozen: FrozenTrial, state: TrialState) -> FrozenTrial:
    return create_trial(
        state=state,
        params=frozen.params,
        distributions=frozen.distributions,
        intermediate_values=frozen.intermediate_values,
        user_attrs=frozen.user_attrs,
        system_attrs=frozen.system_attrs,
    )
