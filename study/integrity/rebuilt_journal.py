"""Optuna's journal of a search, checked against the records of its trials and rebuilt from them.

The journal knows every trial before its record is written (`study.search.journal`). A trial with a record that the
journal does not know is therefore a sign that the journal was cut or replaced.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from renalnet.config import MAIN_NETWORK, NetName
from renalnet.errors import ResultsError
from renalnet.train.epochs import EpochRecord, best_of
from study.config.sections import StudyConfig
from study.config.space import Choice, Domain, domains
from study.records.results import JOURNAL, Results
from study.records.trials import TrialRecord, read_curves, read_records
from study.search.extension import EPOCHS, WHOLE, create_study, network_of
from study.search.journal import read_journal
from study.search.sampler import CHOICES, distribution, first_choices

_STATES: Final = {
    "running": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_UNREADABLE: Final = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What Optuna raises for a damaged journal."""


def unknown_trials(results: Results) -> str:
    """Return why the journal of a results folder is damaged; empty where it is whole."""
    try:
        known = _num_trials(results)
    except _UNREADABLE as error:
        return f"not the journal of a search: {type(error).__name__} {error}"
    try:
        records = read_records(results)
    except ResultsError:  # the fault of the record, which is named by itself
        return ""
    unknown = [record.name for record in records if record.trial >= known.get(record.network, 0)]
    return f"it does not know {', '.join(unknown)}" if unknown else ""


def _num_trials(results: Results) -> dict[str, int]:
    """Return the number of trials of each network."""
    numbers: dict[str, int] = {}
    for study in _studies(results):
        number = len(study.get_trials(deepcopy=False))
        numbers[network_of(study)] = max(number, numbers.get(network_of(study), 0))
    return numbers


def _studies(results: Results) -> list[optuna.Study]:
    journal = read_journal(results)
    names = optuna.get_all_study_names(journal)
    return [optuna.load_study(study_name=name, storage=journal) for name in names]


def find_trial(results: Results, network: str, number: int, epochs: int) -> FrozenTrial | None:
    """Return a trial of the search as the journal knows it; None where it does not, or is damaged."""
    try:
        own = [study for study in _studies(results) if network_of(study) == network]
        (study,) = [study for study in own if study.user_attrs.get(EPOCHS) == epochs]
        return study.get_trials(deepcopy=False)[number]
    except (ResultsError, *_UNREADABLE):
        return None


def rebuild_journal(results: Results, config: StudyConfig) -> bytes | None:
    """Return a journal with every trial that has a record, under the same number, with its point and its epochs.

    The trials that follow are drawn from the same history as before. What the original journal held besides it is not
    rebuilt: times, and the shorter studies of a search that became longer. A choice that was narrowed since keeps the
    options of its trials.

    Returns:
        None where it cannot be rebuilt: a record or a log is lost or damaged, or the points are those of a grid, on
        which Optuna keeps marks that the records lack.
    """
    if config.search.sampler == "grid":
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna logs each study that it creates
    try:
        records = read_records(results)
        curves = read_curves(results, records)
    except ResultsError:
        return None
    with tempfile.TemporaryDirectory(prefix="renalnet-journal-") as folder:
        path = Path(folder) / JOURNAL
        path.touch()
        storage = JournalStorage(JournalFileBackend(str(path)))
        for network in (MAIN_NETWORK, *config.search.baselines):
            own = [record for record in records if record.network == network]
            if [record.trial for record in own] != list(range(len(own))):
                return None
            if own:
                _add_study(storage, config, network, own, curves)
        return path.read_bytes()


def _add_study(
    storage: JournalStorage,
    config: StudyConfig,
    network: NetName,
    records: Sequence[TrialRecord],
    curves: Mapping[str, Sequence[EpochRecord]],
) -> None:
    searched = domains(config.space, network)
    choices = _choices(searched, records)
    study = create_study(storage, config, network, is_first=True)
    study.set_user_attr(CHOICES, choices)
    for record in records:
        study.add_trial(_trial(record, curves[record.name], config, _distributions(record, searched, choices)))
    study.set_user_attr(WHOLE, True)


def _choices(searched: Mapping[str, Domain], records: Sequence[TrialRecord]) -> dict[str, list[Any]]:
    """Return the options of each choice: those of the space, then others that trials have."""
    used = {name: [record.point[name] for record in records if name in record.point] for name in searched}
    return {name: list(dict.fromkeys([*options, *used[name]])) for name, options in first_choices(searched).items()}


def _distributions(
    record: TrialRecord, searched: Mapping[str, Domain], choices: Mapping[str, list[Any]]
) -> dict[str, BaseDistribution]:
    return {name: _containing(value, searched.get(name), choices.get(name)) for name, value in record.point.items()}


def _containing(value: Any, domain: Domain | None, options: list[Any] | None) -> BaseDistribution:
    """Return the distribution of a parameter; of its value alone where the space no longer has the value."""
    if domain is not None and (isinstance(domain, Choice) or value in domain):
        return distribution(domain, options)
    if isinstance(value, str):
        return CategoricalDistribution((value,))
    return IntDistribution(value, value) if isinstance(value, int) else FloatDistribution(value, value)


def _trial(
    record: TrialRecord,
    epochs: Sequence[EpochRecord],
    config: StudyConfig,
    distributions: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    state = _STATES[record.state]
    whole = [epoch for epoch in epochs if not epoch.failure]
    is_pareto = config.search.objective == "pareto"
    # A running trial reports its epochs again, so that each of them is judged; those of a paused trial were judged.
    # Pareto searches report none.
    is_reported = record.state != "running" and not is_pareto
    reported = {epoch.epoch: epoch.objective for epoch in whole} if is_reported else {}
    return create_trial(
        state=state,
        values=_values(record, whole, is_pareto=is_pareto),
        params=record.point,
        distributions=dict(distributions),
        intermediate_values=reported,
    )


def _values(record: TrialRecord, epochs: Sequence[EpochRecord], *, is_pareto: bool) -> list[float] | None:
    """Return the values as `Study.tell` would have set them."""
    best = best_of(epochs)
    if record.state == "complete" and best is not None:
        return list(best.dice.values()) if is_pareto else [best.objective]
    # Optuna gives a pruned trial its last intermediate value.
    return [epochs[-1].objective] if record.state == "pruned" and epochs and not is_pareto else None
