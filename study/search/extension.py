"""How a search goes on with longer trials.

Optuna cannot reopen a finished trial, and values after nine epochs are not comparable with values after twelve. Longer
trials therefore get an Optuna study of their own. It starts with every trial of the shorter study under the same
number: a pruned trial stays pruned, and a failed one stays failed. A finished trial goes on from its last epoch if its
checkpoint was kept, and otherwise counts as pruned there. The shorter study does not change.
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
from study.config.space import Domain, first_point
from study.records.ledger import Ledger
from study.records.names import trial_name
from study.records.results import Results
from study.records.trials import State, TrialRecord, find_record, write_record
from study.search.sampler import CHOICES, first_choices

EPOCHS: Final = "epochs"
"""Attribute of an Optuna study: the length of its trials."""
WHOLE: Final = "whole"
"""Attribute of an Optuna study that has received all trials it starts with."""
_STATES: Final[dict[State, TrialState]] = {
    "running": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""Optuna's state of each trial that is taken over; a complete trial of the shorter study never is complete here."""


def open_study(
    storage: BaseStorage, config: StudyConfig, results: Results, network: NetName, searched: Mapping[str, Domain]
) -> optuna.Study:
    """Return a network's Optuna study for trials of `config.train.epochs`.

    If there is none, it is created, and starts with the trials of the longest shorter study or with the first point.

    Args:
        storage: Optuna's storage.
        config: the whole study.
        results: the results folder.
        network: name of the network.
        searched: the domain of each searched parameter.
    """
    earlier = _studies_of(storage, network)
    found = next((study for study in earlier if study.user_attrs[EPOCHS] == config.train.epochs), None)
    if found is not None and found.user_attrs.get(WHOLE):
        return found
    study = found or create_study(storage, config, network, is_first=not earlier)
    # A study that is not whole is skipped: its driver was killed while it took trials over.
    whole = [other for other in earlier if other.user_attrs.get(WHOLE)]
    shorter = [other for other in whole if other.user_attrs[EPOCHS] < config.train.epochs]
    if shorter:
        longest = max(shorter, key=lambda other: int(other.user_attrs[EPOCHS]))
        _take_over(longest, study, results, config.train.epochs)
        # The trials taken over have the options with which the shorter study began.
        study.set_user_attr(CHOICES, longest.user_attrs[CHOICES])
    else:
        study.set_user_attr(CHOICES, first_choices(searched))
        point = first_point(config.train, config.space, network)
        if point is not None:
            # A driver that was killed before the study was whole may have enqueued the point already.
            study.enqueue_trial(point, skip_if_exists=True)
    study.set_user_attr(WHOLE, True)  # last: a driver that is killed above leaves a study that is not whole
    return study


def network_of(study: optuna.Study) -> str:
    """Return the network of an Optuna study, from its name: `fcn_ppm` or `fcn_ppm-12-epochs`."""
    return str(study.study_name).split("-")[0]


def _studies_of(storage: BaseStorage, network: NetName) -> list[optuna.Study]:
    names = optuna.get_all_study_names(storage)
    own = [name for name in names if name == network or name.startswith(f"{network}-")]
    found = [optuna.load_study(study_name=name, storage=storage) for name in own]
    # A driver that was killed within `create_study` leaves a study without this attribute, which it then takes up.
    return [study for study in found if EPOCHS in study.user_attrs]


def create_study(storage: BaseStorage, config: StudyConfig, network: NetName, *, is_first: bool) -> optuna.Study:
    """Return a network's Optuna study for trials of `config.train.epochs`, created unless it exists.

    Args:
        storage: Optuna's storage.
        config: the whole study.
        network: name of the network.
        is_first: whether the storage has no study of the network for trials of another length.
    """
    study = optuna.create_study(
        study_name=network if is_first else f"{network}-{config.train.epochs}-epochs",
        storage=storage,
        directions=["maximize"] * (len(config.labels) if config.search.objective == "pareto" else 1),
        load_if_exists=True,
    )
    study.set_user_attr(EPOCHS, config.train.epochs)
    return study


def _take_over(shorter: optuna.Study, study: optuna.Study, results: Results, epochs: int) -> None:
    """Add the trials of the shorter study that are still missing, in their order, and lengthen their records."""
    ledger = Ledger(results)
    # Trials keep their numbers, so the number of those taken over says where a killed driver stopped.
    for frozen in shorter.get_trials(deepcopy=False)[len(study.get_trials(deepcopy=False)) :]:
        record = find_record(results, trial_name(network_of(study), frozen.number))
        if record is None:  # enqueued, or drawn but not started
            study.add_trial(_copy(frozen, frozen.state))
        else:
            longer = _lengthened(record, results, epochs)
            ledger.drop_trial(record.name)
            # Before the trial: a driver that is killed in between finds the record lengthened, and adds the trial.
            write_record(results, longer)
            study.add_trial(_copy(frozen, _STATES[longer.state]))
    # Last, because a drawn trial that has not started is taken over in the state that it has in the shorter study.
    for frozen in shorter.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # Optuna's TPE ranks a pruned trial without values below all others, and ignores a failed one.
        state = TrialState.PRUNED if frozen.intermediate_values else TrialState.FAIL
        shorter.tell(frozen.number, state=state)  # a running trial goes on in the longer study only


def _lengthened(record: TrialRecord, results: Results, epochs: int) -> TrialRecord:
    """Return a trial's record with the new length, and the state that follows from it."""
    record = replace(record, train={**record.train, "epochs": epochs})
    if record.state != "complete":
        return record
    if has_checkpoint(results.trial_folder(record.name)):
        return record.ended("running", "")
    return record.ended("pruned", f"its weights were deleted before trials became {epochs} epochs long")


def _copy(frozen: FrozenTrial, state: TrialState) -> FrozenTrial:
    return create_trial(
        state=state,
        params=frozen.params,
        distributions=frozen.distributions,
        intermediate_values=frozen.intermediate_values,
        user_attrs=frozen.user_attrs,
        # Optuna keeps the values of an enqueued point there.
        system_attrs=frozen.system_attrs,
    )
