"""The finalists: the best configurations of a search, each with all of its runs.

The run of a configuration in the search is repeated over further seeds and, on request, on folds
(`study.finalists.repeats`). Only the runs over seeds form the ensemble. A network trained on a fold has seen validation
cases, on which the winner is chosen, so it would look better there than it is. Folds only measure how good a
configuration is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import fmean, stdev
from typing import Any, Final

from renalnet.config import MAIN_NETWORK, fingerprint
from renalnet.errors import RenalnetError, ResultsError
from renalnet.nets.bundle import MODEL_FILE, load_model, model_digest
from renalnet.runtime import storage
from renalnet.train.epochs import EpochRecord, best_of
from study.config.sections import FinalConfig, StudyConfig
from study.records.results import Results
from study.records.trials import (
    TrialRecord,
    find_record,
    is_reference,
    read_curves,
    read_epochs,
    read_records,
    survives,
)

_DIGITS: Final = 8
"""Hexadecimal digits of a digest; it distinguishes a few versions of one finalist, so 32 bits suffice."""
_MEMBERSHIP: Final = {"num_finalists": 1, "seeds": 1, "folds": 0}
"""Fields that choose the finalists and their members. They are left out of the digest, because the masks of a finalist
depend on them only through its members, which the digest covers."""


@dataclass(frozen=True)
class Run:
    """A training run of a configuration, and what it reached."""

    record: TrialRecord
    """Record of the run."""
    objective: float
    """Objective of the best epoch, as measured in training; 0 where no epoch has ended."""
    has_model: bool
    """Whether it left a network that can be loaded."""

    @property
    def is_on_fold(self) -> bool:
        """Whether it was trained and scored on other cases than the search's trials."""
        return self.record.fold is not None


@dataclass(frozen=True)
class Finalist:
    """A configuration in the final stage, represented by the ensemble of its runs over seeds."""

    network: str
    """Key of the network."""
    name: str
    """Name of its trial in the search."""
    runs: tuple[Run, ...]
    """The run of the search, then the repeats."""
    digest: str
    """Hash of the members' weights and of how the final stage uses them."""
    is_reference: bool = False
    """Whether it has the paper's values (`study.records.trials.is_reference`)."""

    @property
    def objective(self) -> float:
        """Mean objective of all runs, by which finalists are ranked before the final stage."""
        return fmean(run.objective for run in self.runs)

    @property
    def fold_objective(self) -> float:
        """Mean objective of the runs on folds; 0 without one."""
        found = [run.objective for run in self.runs if run.is_on_fold]
        return fmean(found) if found else 0.0

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the runs whose networks vote; the run of the search comes first."""
        return _members_of(self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return the entry in `selection.json`: the runs, and their mean and spread over seeds and over folds."""
        return {
            "network": self.network,
            "digest": self.digest,
            "members": list(self.members),
            "objective": self.objective,
            "over_seeds": _spread([run.objective for run in self.runs if not run.is_on_fold]),
            "over_folds": _spread([run.objective for run in self.runs if run.is_on_fold]),
            "runs": [_run_to_json(run) for run in self.runs],
        }


def repeats_of(config: StudyConfig, finalist: TrialRecord) -> list[TrialRecord]:
    """Return the records with which a finalist's repeats start: seeds, then folds. A baseline has no folds.

    A fold is scored on all of its cases, also where the search's trials are scored on some of them.
    """
    # One less than configured, because the run of the search has the study's own seed.
    seeds = range(config.seed + 1, config.seed + config.final.seeds)
    num_folds = config.final.folds if finalist.network == MAIN_NETWORK else 0
    on_folds = {"max_validation_cases": 0}  # 0: all of them
    return [
        *(_repeat(finalist, {"seed": seed}) for seed in seeds),
        *(_repeat(finalist, on_folds, fold=fold, num_folds=num_folds) for fold in range(num_folds)),
    ]


def find_finalists(results: Results, config: StudyConfig) -> list[TrialRecord]:
    """Return the best `num_finalists` trials of 3D_FCN_PPM and the best one of each baseline, by their best epoch.

    The trial with the paper's values follows those of 3D_FCN_PPM if it is not one of them.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    ranked = _ranked(results)
    ours = _best_of(results, ranked, MAIN_NETWORK, config.final.num_finalists)
    if not ours:
        raise ResultsError(
            f"{results}: no trial of {MAIN_NETWORK} has finished an epoch; see the reason in each trials/*/trial.json"
        )
    paper = [record for record in ranked if is_reference(record) and record not in ours]
    baselines = (_best_of(results, ranked, network, 1) for network in config.search.baselines)
    return [*ours, *_best_of(results, paper, MAIN_NETWORK, 1), *chain.from_iterable(baselines)]


def load_finalists(results: Results, config: StudyConfig) -> list[Finalist]:
    """Return the finalists with their runs: those of 3D_FCN_PPM by falling mean objective, then the baselines.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    found = [_load_finalist(results, config, record) for record in find_finalists(results, config)]
    # `fix_winner` relies on this order between finalists with equal scores.
    return sorted(found, key=lambda finalist: (finalist.network != MAIN_NETWORK, -finalist.objective))


def _load_finalist(results: Results, config: StudyConfig, record: TrialRecord) -> Finalist:
    repeats = (find_record(results, repeat.name) for repeat in repeats_of(config, record))
    runs = tuple(_run_of(results, each) for each in (record, *repeats) if each)
    folders = [results.trial_folder(name) for name in _members_of(runs)]
    digest = _joint_digest(folders, config.final)
    return Finalist(record.network, record.name, runs, digest, is_reference(record))


def _members_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the names of the runs over seeds that left a network."""
    return tuple(run.record.name for run in runs if run.has_model and not run.is_on_fold)


def _ranked(results: Results) -> list[TrialRecord]:
    """Return the search's trials that have finished an epoch and did not fail by themselves, best first."""
    records = read_records(results)
    curves = read_curves(results, records)
    alive = [record for record in records if survives(curves[record.name])]
    reached = [(best.objective, record) for record in alive if (best := best_of(curves[record.name]))]
    # The sort is stable: of equal trials, the one with the lower number comes first.
    return [record for _, record in sorted(reached, key=lambda pair: -pair[0])]


def damaged_models(results: Results, config: StudyConfig) -> list[str]:
    """Return a warning for each damaged model that would take part in the final stage otherwise."""
    ranked = _ranked(results)
    numbers = {MAIN_NETWORK: config.final.num_finalists, **dict.fromkeys(config.search.baselines, 1)}
    before = [record for network, number in numbers.items() for record in _until(results, ranked, network, number)]
    before += [record for record in ranked if is_reference(record) and record not in before]
    # Not those on folds: their networks never vote, so their damage changes nothing.
    repeats = [repeat for record in before for repeat in repeats_of(config, record) if repeat.fold is None]
    broken = [(record, _damage(results, record)) for record in (*before, *repeats)]
    return [_damage_warning(record, damage) for record, damage in broken if damage]


def _damage_warning(record: TrialRecord, damage: str) -> str:
    instead = "the others of its ensemble vote without it" if record.repeat_of else "the next best trial is used"
    if is_reference(record):
        instead += ", and the winner is not compared with the paper's values"
    return f"final stage: the model of {record.name} is damaged ({damage}); {instead}"


def _until(results: Results, ranked: Iterable[TrialRecord], network: str, number: int) -> list[TrialRecord]:
    """Return a network's trials from the best to its last finalist, with those whose weights are damaged."""
    own = [record for record in ranked if record.network == network]
    last = _best_of(results, own, network, number)
    return own[: own.index(last[-1]) + 1] if len(last) == number else own


def _best_of(results: Results, ranked: Iterable[TrialRecord], network: str, number: int) -> list[TrialRecord]:
    """Return the first of a network's trials whose weights were kept and are not damaged."""
    # A generator, because `_has_model` reads whole weights: it stops at the last finalist.
    kept = (record for record in ranked if record.network == network and _has_model(results, record))
    return list(islice(kept, number))


def _run_of(results: Results, record: TrialRecord) -> Run:
    best = _best_epoch(results, record)
    # 0, so that a run that failed before its first epoch ended lowers the mean of its configuration.
    return Run(record, best.objective if best else 0.0, best is not None and _has_model(results, record))


def _best_epoch(results: Results, record: TrialRecord) -> EpochRecord | None:
    return best_of(read_epochs(results, record.name))


def _has_model(results: Results, record: TrialRecord) -> bool:
    folder = results.trial_folder(record.name)
    return storage.exists(storage.join(folder, MODEL_FILE)) and not _damage(results, record)


def _damage(results: Results, record: TrialRecord) -> str:
    """Return why a trial's weights cannot be used; empty where they are intact, or were deleted by the search."""
    folder = results.trial_folder(record.name)
    if not storage.exists(storage.join(folder, MODEL_FILE)):
        return ""
    try:
        # The weights are read to the end, because only their checksum reveals damage.
        load_model(folder)
    except RenalnetError as error:
        return str(error)
    return ""


def _repeat(finalist: TrialRecord, train: dict[str, Any], fold: int | None = None, num_folds: int = 0) -> TrialRecord:
    return TrialRecord(
        trial=finalist.trial,
        network=finalist.network,
        state="running",
        point=finalist.point,
        train={**finalist.train, **train},
        cpus=finalist.cpus,
        gpus=finalist.gpus,
        repeat_of=finalist.name,
        fold=fold,
        num_folds=num_folds,
    )


def _joint_digest(folders: Iterable[str], config: FinalConfig) -> str:
    weights = "".join(model_digest(folder) for folder in folders)
    together = weights + fingerprint(config.model_copy(update=_MEMBERSHIP))
    return hashlib.sha256(together.encode()).hexdigest()[:_DIGITS]


def _spread(objectives: Sequence[float]) -> dict[str, float | int | None] | None:
    """Return mean, sample standard deviation and number; None without runs. One run has no standard deviation."""
    if not objectives:
        return None
    sd = stdev(objectives) if len(objectives) > 1 else None
    return {"mean": fmean(objectives), "sd": sd, "num": len(objectives)}


def _run_to_json(run: Run) -> dict[str, Any]:
    record = run.record
    about = {"name": record.name, "seed": record.seed, "fold": record.fold, "objective": run.objective}
    return {**about, "state": record.state, "reason": record.reason}
