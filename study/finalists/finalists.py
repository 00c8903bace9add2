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
from study.records import paths
from study.records.trials import TrialRecord, find_record, read_curves, read_epochs, read_records, survives

OURS: Final = MAIN_NETWORK
_DIGITS: Final = 8
_MEMBERSHIP: Final = {"num_finalists": 1, "seeds": 1, "folds": 0}
"""Say who takes part; a candidate's own masks do not depend on them beyond its members."""


@dataclass(frozen=True)
class Run:
    """One training run of a configuration, and what it reached."""

    record: TrialRecord
    objective: float
    """Best epoch's, in the training loop; 0 of a run that finished none."""
    has_model: bool

    @property
    def is_on_fold(self) -> bool:
        """Whether it was trained and scored on other patients than the search's trials."""
        return self.record.fold is not None


@dataclass(frozen=True)
class Finalist:
    """A configuration that takes part in the final stage by the ensemble of its runs over seeds."""

    network: str
    name: str
    """Of its trial in the search."""
    runs: tuple[Run, ...]
    """The search's own, then its repeats."""
    digest: str
    """Changes with any weight of any member, and with how the final stage uses them."""

    @property
    def objective(self) -> float:
        """Mean over all runs: by this, candidates are ranked before they meet the validation patients as a whole."""
        return fmean(run.objective for run in self.runs)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the runs whose networks vote; the search's own first."""
        return _members_of(self.runs)

    def to_json(self) -> dict[str, Any]:
        """For `selection.json`: the runs, and mean and spread over seeds and over folds."""
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
    """The records with which a finalist's repeats begin: seeds, then folds; a baseline has no folds.

    Folds are scored on all of their patients, however few the search's trials look at in an epoch.
    """
    seeds = range(config.seed + 1, config.seed + config.final.seeds)
    num_folds = config.final.folds if finalist.network == OURS else 0
    on_folds = {"max_validation_cases": 0}
    return [
        *(_repeat(finalist, {"seed": seed}) for seed in seeds),
        *(_repeat(finalist, on_folds, fold=fold, num_folds=num_folds) for fold in range(num_folds)),
    ]


def find_finalists(results: str, config: StudyConfig) -> list[TrialRecord]:
    """The best `num_finalists` trials of 3D_FCN_PPM and the best one of each baseline, by best epoch.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    ranked = _ranked(results)
    ours = _best_of(results, ranked, OURS, config.final.num_finalists)
    if not ours:
        raise ResultsError(f"{results}: no trial of {OURS} has finished an epoch; each trials/*/trial.json says why")
    baselines = (_best_of(results, ranked, network, 1) for network in config.search.baselines)
    return [*ours, *chain.from_iterable(baselines)]


def load_finalists(results: str, config: StudyConfig) -> list[Finalist]:
    """The finalists with their runs: 3D_FCN_PPM's by falling mean objective, then the baselines.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    found = [_candidate(results, config, finalist) for finalist in find_finalists(results, config)]
    return sorted(found, key=lambda candidate: (candidate.network != OURS, -candidate.objective))


def _candidate(results: str, config: StudyConfig, finalist: TrialRecord) -> Finalist:
    repeats = (find_record(results, record.name) for record in repeats_of(config, finalist))
    runs = tuple(_run_of(results, record) for record in (finalist, *repeats) if record)
    folders = [paths.trial_folder(results, name) for name in _members_of(runs)]
    digest = _joint_digest(folders, config.final)
    return Finalist(finalist.network, finalist.name, runs, digest)


def _members_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """Names of the runs whose networks may vote: those over seeds that have one."""
    return tuple(run.record.name for run in runs if run.has_model and not run.is_on_fold)


def _ranked(results: str) -> list[TrialRecord]:
    """The search's trials that have finished an epoch and did not fail by themselves, the best first."""
    records = read_records(results)
    curves = read_curves(results, records)
    alive = [record for record in records if survives(curves[record.name])]
    reached = [(best.objective, record) for record in alive if (best := best_of(curves[record.name]))]
    return [record for _, record in sorted(reached, key=lambda pair: -pair[0])]


def damaged_models(results: str, config: StudyConfig) -> list[str]:
    """A line for each checkpoint that would have taken part in the final stage if it were whole."""
    ranked = _ranked(results)
    numbers = {OURS: config.final.num_finalists, **dict.fromkeys(config.search.baselines, 1)}
    before = [record for network, number in numbers.items() for record in _until(results, ranked, network, number)]
    repeats = [repeat for record in before for repeat in repeats_of(config, record) if repeat.fold is None]
    broken = [(record, _damage(results, record)) for record in (*before, *repeats)]
    return [_damage_in_words(record, damage) for record, damage in broken if damage]


def _damage_in_words(record: TrialRecord, damage: str) -> str:
    instead = "the others of its ensemble vote without it" if record.repeat_of else "the next best trial is used"
    return f"final stage: the checkpoint of {record.name} is damaged ({damage}); {instead}"


def _until(results: str, ranked: Iterable[TrialRecord], network: str, number: int) -> list[TrialRecord]:
    """A network's trials down to the last that takes part, be their weights whole or not."""
    mine = [record for record in ranked if record.network == network]
    last = _best_of(results, mine, network, number)
    return mine[: mine.index(last[-1]) + 1] if len(last) == number else mine


def _best_of(results: str, ranked: Iterable[TrialRecord], network: str, number: int) -> list[TrialRecord]:
    """The first of a network's trials whose weights are whole and were not let go."""
    kept = (record for record in ranked if record.network == network and _has_model(results, record))
    return list(islice(kept, number))


def _run_of(results: str, record: TrialRecord) -> Run:
    best = _best_epoch(results, record)
    return Run(record, best.objective if best else 0.0, best is not None and _has_model(results, record))


def _best_epoch(results: str, record: TrialRecord) -> EpochRecord | None:
    return best_of(read_epochs(results, record.name))


def _has_model(results: str, record: TrialRecord) -> bool:
    folder = paths.trial_folder(results, record.name)
    return storage.exists(storage.join(folder, MODEL_FILE)) and not _damage(results, record)


def _damage(results: str, record: TrialRecord) -> str:
    """Why a trial's weights cannot be used; nothing where they are whole, or were let go."""
    folder = paths.trial_folder(results, record.name)
    if not storage.exists(storage.join(folder, MODEL_FILE)):
        return ""
    try:
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
    """Of the weights, and of what the final stage is told to do with them."""
    weights = "".join(model_digest(folder) for folder in folders)
    together = weights + fingerprint(config.model_copy(update=_MEMBERSHIP))
    return hashlib.sha256(together.encode()).hexdigest()[:_DIGITS]


def _spread(objectives: Sequence[float]) -> dict[str, float | int | None] | None:
    """Mean and sample sd, which one run has not; none of no runs."""
    if not objectives:
        return None
    sd = stdev(objectives) if len(objectives) > 1 else None
    return {"mean": fmean(objectives), "sd": sd, "num": len(objectives)}


def _run_to_json(run: Run) -> dict[str, Any]:
    record = run.record
    about = {"name": record.name, "seed": record.seed, "fold": record.fold, "objective": run.objective}
    return {**about, "state": record.state, "reason": record.reason}
