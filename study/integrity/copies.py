"""Other copies of a lost or damaged file in its own results folder.

The winner's weights are in `best/` as well, and those of a trial whose last epoch was its best are in its checkpoint. A
trial's record is in the table of trials and in the journal, its log in its checkpoints and in the table of epochs. The
records make the journal again. The ledger keeps the text of the manifest and of the choice of the winner.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from renalnet.config import parse
from renalnet.errors import RenalnetError, ResultsError
from renalnet.nets.bundle import CONFIG_FILE, MODEL_FILE, config_content, load_model, member_folder
from renalnet.nets.tensor_file import digest_of, encode
from renalnet.runtime import storage
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.epochs import DICE, EpochRecord, log_content
from renalnet.train.state import weights_in
from study.config.sections import StudyConfig
from study.integrity.kinds import BEST, SELECTION, STEPS, WEIGHTS
from study.integrity.rebuilt_journal import find_trial, rebuild_journal
from study.records.files import read_object
from study.records.ledger import Entry, LedgerContent
from study.records.manifest import find_manifest
from study.records.results import CURVES_TABLE, JOURNAL, TRIALS_TABLE, Results
from study.records.tables import Epoch, Trial
from study.records.trials import UNFINISHED, TrialRecord, find_record

_ENDS: Final = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""State of a record by Optuna's name for it."""


@dataclass(frozen=True)
class Copy:
    """Content of a file, found elsewhere."""

    content: bytes
    source: str
    """Where it was found, in words."""


@dataclass(frozen=True)
class Wanted:
    """A file to restore."""

    results: Results
    name: str
    ledger: LedgerContent

    @property
    def entry(self) -> Entry | None:
        """Entry in the ledger, with which the restored content is compared; None where there is none."""
        return self.ledger.files.get(self.name)


def find_copy(results: Results, name: str, ledger: LedgerContent) -> Copy | None:
    """Return a file's content from another copy in the folder; None where there is none.

    Weights, and files of which the ledger keeps the text, are restored exactly or not at all. A record, a log or a
    journal may differ in values that the tables do not hold.
    """
    wanted = Wanted(results, name, ledger)
    for pattern, find in _FINDERS:
        if found := pattern.fullmatch(name):
            copies = [copy for copy in find(wanted, found) if copy]
            exact = [copy for copy in copies if Entry.of(copy.content) == wanted.entry]
            is_strict = wanted.entry is not None and pattern in _STRICT
            return next(iter(exact or ([] if is_strict else copies)), None)
    return None


def _kept_text(wanted: Wanted, _: re.Match[str]) -> Iterator[Copy]:
    if text := wanted.ledger.copies.get(wanted.name):
        yield Copy(text.encode(), "the copy in the ledger")


def _record(wanted: Wanted, found: re.Match[str]) -> Iterator[Copy]:
    """Yield a trial's record from its row in the table of trials; its point is in the journal."""
    row = _row(wanted.results, found[1])
    known = _known_of(wanted.results, row) if row else None
    if row is None or known is None:
        return
    values = {**known, "trial": row.trial, "network": row.network, "train": json.loads(row.config)}
    values |= {"reason": row.reason, "repeat_of": row.repeat_of, "fold": row.fold, "num_folds": _num_folds(row)}
    cpus, gpus = _devices(row)
    # The table does not tell 1 from 1.0.
    for number in (int(cpus), cpus):
        record = TrialRecord.from_json(wanted.name, {**values, "cpus": number, "gpus": gpus})
        yield Copy(storage.json_content(asdict(record)), f"{TRIALS_TABLE} and {JOURNAL}")


def _known_of(results: Results, row: Trial) -> dict[str, Any] | None:
    """Return point and state of a trial or repeat that has ended; None where nothing else knows them."""
    if row.repeat_of:
        finalist = _find_record(results, row.repeat_of)
        has_ended = row.state not in UNFINISHED
        return {"point": finalist.point, "state": row.state} if finalist and has_ended else None
    trial = find_trial(results, row.network, row.trial, row.planned_epochs)
    # The table may be older than the end of the trial.
    state = row.state if row.state not in UNFINISHED else _ENDS.get(trial.state.name if trial else "")
    return {"point": trial.params, "state": state} if trial and state else None


def _row(results: Results, name: str) -> Trial | None:
    try:
        return next((row for row in results.trials() or [] if row.name == name), None)
    except ResultsError:
        return None


def _find_record(results: Results, name: str) -> TrialRecord | None:
    try:
        return find_record(results, name)
    except ResultsError:
        return None


def _devices(row: Trial) -> tuple[float, float]:
    """Return the processors and GPUs of a trial's slot, from its hours; 0 for a trial without an epoch."""
    hours = row.seconds / 3600
    return (round(row.cpu_hours / hours, 3), round(row.gpu_hours / hours, 3)) if hours else (0.0, 0.0)


def _num_folds(row: Trial) -> int:
    found = re.search(r"-fold-\d+-of-(\d+)$", row.name)
    return int(found[1]) if found and row.fold is not None else 0


def _log(wanted: Wanted, found: re.Match[str]) -> Iterator[Copy]:
    """Yield a trial's log from its newest checkpoint, then from the table of epochs, which leaves out failed ones."""
    name = found[1]
    try:
        checkpoint = load_checkpoint(wanted.results.trial_folder(name))
        if checkpoint and checkpoint.meta.get("records"):
            records = [EpochRecord.from_json(values) for values in checkpoint.meta["records"]]
            yield Copy(log_content(records), f"the checkpoint of {name}")
    except (RenalnetError, KeyError, TypeError):
        pass
    epochs = _curve(wanted.results, name)
    row = _row(wanted.results, name)
    if row is not None and epochs and len(epochs) == row.epochs:
        yield Copy(log_content(epochs), CURVES_TABLE)


def _curve(results: Results, name: str) -> list[EpochRecord]:
    try:
        rows = [row for row in results.epochs() or [] if row.name == name]
        return [EpochRecord.from_json(_logged(row)) for row in sorted(rows, key=lambda row: row.epoch)]
    except (ResultsError, TypeError):
        return []


def _logged(row: Epoch) -> dict[str, Any]:
    """Return the values of an epoch in a log."""
    names = {each.name for each in fields(EpochRecord)} - {"dice", "failure"}
    dice = {f"{DICE}{label}": value for label, value in row.dice.items()}
    return {**{name: getattr(row, name) for name in names}, **dice}


def _weights(wanted: Wanted, found: re.Match[str]) -> Iterator[Copy]:
    """Yield the weights or the configuration of a trial from the winner's bundle, or weights from a checkpoint."""
    number = _member_number(wanted.results, found["trial"])
    if number:
        yield from _from_best(wanted.results, number, found["file"])
    if found["file"] == MODEL_FILE:
        yield from _from_checkpoint(wanted, found["trial"])


def _member_number(results: Results, trial: str) -> int:
    """Return the number of a trial's network in the winner's bundle, from 1; 0 where it is not in it."""
    members = _members(results)
    return members.index(trial) + 1 if trial in members else 0


def _members(results: Results) -> list[str]:
    """Return the names of the winner's runs; empty before it was chosen."""
    selection = _selection(results)
    finalists = _runs_of_finalists(selection)
    return finalists.get(str(selection.get("winner")), [])


def members_of_finalists(results: Results) -> set[str]:
    """Return the names of the runs whose networks vote in the final stage; empty before the winner was chosen."""
    return {member for members in _runs_of_finalists(_selection(results)).values() for member in members}


def _runs_of_finalists(selection: Mapping[str, Any]) -> dict[str, list[str]]:
    # In the files of earlier versions, a finalist has one network, which they do not name.
    return {name: about.get("members") or [name] for name, about in selection.get("candidates", {}).items()}


def _selection(results: Results) -> dict[str, Any]:
    try:
        return read_object(results.selection_path)
    except (FileNotFoundError, ResultsError):
        return {}


def _from_best(results: Results, number: int, file: str) -> Iterator[Copy]:
    folder = member_folder(results.best_folder, number)
    try:
        _, config = load_model(folder)  # compares the weights with their checksum
    except RenalnetError:
        return
    if file == MODEL_FILE:
        yield Copy(storage.read_bytes(storage.join(folder, MODEL_FILE)), "best/")
    if file == CONFIG_FILE:
        yield Copy(config_content(config.model_copy(update={"final": None, "num_members": 1})), "best/")


def _from_checkpoint(wanted: Wanted, trial: str) -> Iterator[Copy]:
    """Yield the weights of the last epoch, if they are the wanted ones."""
    folder = wanted.results.trial_folder(trial)
    try:
        sha256 = read_object(storage.join(folder, CONFIG_FILE))["sha256"]
        checkpoint = load_checkpoint(folder)
    except (FileNotFoundError, RenalnetError, KeyError):
        return
    content = encode(weights_in(checkpoint.tensors)) if checkpoint else b""
    if digest_of(content) == sha256:
        yield Copy(content, f"the checkpoint of {trial}")


def _best(wanted: Wanted, found: re.Match[str]) -> Iterator[Copy]:
    """Yield the weights of the winner's bundle, and the configurations of further members, from the trials."""
    number = int(found["number"] or 1)
    members = _members(wanted.results)
    # The first configuration holds the inference settings besides, which the final stage writes again.
    is_copied = found["file"] == MODEL_FILE or (found["file"] == CONFIG_FILE and number > 1)
    if len(members) < number or not is_copied:
        return
    folder = wanted.results.trial_folder(members[number - 1])
    try:
        load_model(folder)
    except RenalnetError:
        return
    yield Copy(storage.read_bytes(storage.join(folder, found["file"])), f"trials/{members[number - 1]}/")


def _post_processing(wanted: Wanted, found: re.Match[str]) -> Iterator[Copy]:
    try:
        values = read_object(wanted.results.post_processings_path).get(found["method"])
        finalist = read_object(wanted.results.selection_path)["candidates"][found["method"]]
    except (FileNotFoundError, ResultsError, KeyError, TypeError):
        return
    # The table holds the choice for the present weights only.
    if values and finalist.get("digest") == found["digest"]:
        yield Copy(storage.json_content(values), "final/steps.json")


def _journal(wanted: Wanted, _: re.Match[str]) -> Iterator[Copy]:
    manifest = find_manifest(wanted.results) or {}
    config = parse(StudyConfig, manifest.get("config", {}), wanted.results.folder)
    content = rebuild_journal(wanted.results, config)
    if content:
        yield Copy(content, "the records of its trials")


_STRICT: Final = (WEIGHTS, BEST, SELECTION)
_FINDERS: Final[tuple[tuple[re.Pattern[str], Callable[[Wanted, re.Match[str]], Iterator[Copy]]], ...]] = (
    (SELECTION, _kept_text),
    (re.compile(r"trials/([^/]+)/trial\.json"), _record),
    (re.compile(r"trials/([^/]+)/epochs\.jsonl"), _log),
    (WEIGHTS, _weights),
    (BEST, _best),
    (STEPS, _post_processing),
    (re.compile(re.escape(JOURNAL)), _journal),
)
"""In the order in which files are restored: later ones may need earlier ones."""


def order_of(name: str) -> int:
    """Return the place of a file in the order in which files are restored."""
    places = (place for place, (pattern, _) in enumerate(_FINDERS) if pattern.fullmatch(name))
    return next(places, len(_FINDERS))
