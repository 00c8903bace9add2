"""The lost and damaged files of a results folder.

Files that the ledger names are compared with it. Files of finished work that it does not name yet are read: a driver
was killed before it entered them, or the folder was written by a version without ledger. Such a folder has other
witnesses of what it held: the table of trials, the choice of the winner and the table of measurements.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from renalnet.errors import ResultsError
from renalnet.nets.bundle import CONFIG_FILE, MODEL_FILE
from renalnet.runtime import storage
from study.integrity.kinds import PRODUCT, SELECTION, STEPS, TABLES, VIEW
from study.integrity.readable import unreadable
from study.integrity.rebuilt_journal import unknown_trials
from study.records.files import read_object
from study.records.ledger import LEDGER, NUM_READERS, Entry, Ledger, LedgerContent, entries_of, present_files
from study.records.manifest import find_manifest
from study.records.results import JOURNAL, Results
from study.records.tables import Measurement, Trial
from study.records.trials import UNFINISHED, find_record

SMALL_BYTES: Final = 1 << 18
"""Files up to this size are always compared with their checksum; of larger ones, a quick check compares the size."""
LOST: Final = "lost"


@dataclass(frozen=True)
class Fault:
    """A file of finished work that is lost or damaged."""

    name: str
    """Relative to the results folder."""
    what: str
    """`lost`, or what is damaged."""

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True)
class Inspection:
    """What a results folder should hold, and what of it is lost or damaged."""

    ledger: LedgerContent
    """The ledger, with the whole files that it did not name yet."""
    faults: tuple[Fault, ...]
    """Sorted by name."""
    is_adopted: bool
    """Whether the folder has no readable ledger, so that the files were read instead."""


def inspect(results: Results, *, is_full: bool = False) -> Inspection:
    """Compare a results folder with its ledger, and read the files of finished work that it does not name.

    Args:
        results: the results folder, with a readable manifest.
        is_full: compare the checksums of all files, not only of small ones.
    """
    known, faults = _ledger(results)
    content = known or LedgerContent()
    is_finished = bool((find_manifest(results) or {}).get("finished"))
    found, unread = _unnamed(results, content.files, is_finished=is_finished)
    of_journal = _journal_faults(results, content.files.get(JOURNAL))
    faults += [*_faults_of(results, content.files, is_full=is_full), *unread, *of_journal]
    if is_finished and JOURNAL not in content.files and not of_journal:
        found |= entries_of(results, [JOURNAL])
    if known is None:
        seen = {*found, *(fault.name for fault in faults)}
        of_others, lost = _unseen(results, {*_implied(results, is_finished=is_finished)} - seen)
        found |= of_others
        faults += lost
    whole = replace(content, files={**content.files, **found})
    return Inspection(whole, tuple(sorted(faults, key=lambda fault: fault.name)), known is None)


def _ledger(results: Results) -> tuple[LedgerContent | None, list[Fault]]:
    try:
        return Ledger(results).find(), []
    except ResultsError as error:
        return None, [Fault(LEDGER, f"{error}".split("; ")[0].removeprefix(f"{Ledger(results).path} is "))]


def _unseen(results: Results, names: set[str]) -> tuple[dict[str, Entry], list[Fault]]:
    """Return entries and faults of files of which only other files speak."""
    # Those that exist belong to a trial whose record is lost.
    present = [name for name in names if storage.exists(results.path(name))]
    found, unread = _read(results, present)
    return found, [*unread, *(Fault(name, LOST) for name in names - set(present))]


def _faults_of(results: Results, files: Mapping[str, Entry], *, is_full: bool) -> list[Fault]:
    """Return the faults of files that the ledger names, without the journal."""
    named = {name: entry for name, entry in files.items() if name != JOURNAL}
    folders = sorted({_folder_of(name) for name in named})
    with ThreadPoolExecutor(NUM_READERS) as pool:
        # One listing a folder instead of one request a file.
        listed = dict(zip(folders, pool.map(partial(_sizes, results), folders), strict=True))
        check = partial(_fault_of, results, listed, is_full)
        return [fault for fault in pool.map(check, named, named.values()) if fault]


def _fault_of(
    results: Results, listed: Mapping[str, Mapping[str, int | None]], is_full: bool, name: str, entry: Entry
) -> Fault | None:
    base = name.rpartition("/")[2]
    sizes = listed[_folder_of(name)]
    if base not in sizes:
        return Fault(name, LOST)
    if sizes[base] != entry.num_bytes:
        return Fault(name, f"damaged ({_size_words(sizes[base])} instead of {entry.num_bytes} bytes)")
    if not (is_full or entry.num_bytes <= SMALL_BYTES):
        return None
    differs = Entry.of(storage.read_bytes(results.path(name))) != entry
    return Fault(name, "damaged (its content differs from its checksum)") if differs else None


def _size_words(num_bytes: int | None) -> str:
    return "a folder" if num_bytes is None else f"{num_bytes}"


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _sizes(results: Results, folder: str) -> dict[str, int | None]:
    return storage.list_sizes(results.path(folder) if folder else results.folder)


def _unnamed(results: Results, known: Container[str], *, is_finished: bool) -> tuple[dict[str, Entry], list[Fault]]:
    """Return the entries of the files of finished work without one, and the faults of those that cannot be read."""
    trials = [(name, unreadable(results, f"trials/{name}/trial.json")) for name in _unnamed_trials(results, known)]
    faults = [Fault(f"trials/{name}/trial.json", _damage(reason)) for name, reason in trials if reason]
    ended = [name for name, reason in trials if not reason and _has_ended(results, name)]
    names = [file for name in ended for file in _whole_files(results, name) if file not in known]
    names += [name for name in _final_files(results, is_finished=is_finished) if name not in known]
    found, unread = _read(results, names)
    return found, [*faults, *unread]


def _read(results: Results, names: Sequence[str]) -> tuple[dict[str, Entry], list[Fault]]:
    """Return the entries of the files that can be read, and the faults of the others."""
    with ThreadPoolExecutor(NUM_READERS) as pool:
        reasons = dict(zip(names, pool.map(partial(unreadable, results), names), strict=True))
    faults = [Fault(name, _damage(reason)) for name, reason in reasons.items() if reason]
    return entries_of(results, (name for name, reason in reasons.items() if not reason)), faults


def _damage(reason: str) -> str:
    return f"damaged ({reason})"


def _unnamed_trials(results: Results, known: Container[str]) -> list[str]:
    """Return the trials with a record that the ledger does not name."""
    folders = [name for name, size in storage.list_sizes(results.trials_folder).items() if size is None]
    records = {name: f"trials/{name}/trial.json" for name in folders}
    unnamed = [name for name, record in records.items() if record not in known]
    return [name for name in unnamed if storage.exists(results.trial_record_path(name))]


def _has_ended(results: Results, name: str) -> bool:
    record = find_record(results, name)
    return record is not None and record.has_ended


def _whole_files(results: Results, name: str) -> list[str]:
    """Return the files of an ended trial, without weights that the search was deleting when it was killed."""
    names = present_files(results, name)
    weights = {f"trials/{name}/{file}" for file in (MODEL_FILE, CONFIG_FILE)}
    return names if weights <= set(names) else [file for file in names if file not in weights]


def _final_files(results: Results, *, is_finished: bool) -> Iterator[str]:
    """Yield the files of the final stage; tables and the model bundle only where the study has finished."""
    names = [f"final/{name}" for name in _visible(storage.list_files(results.final_folder))]
    kinds = (PRODUCT, SELECTION, STEPS, VIEW) if is_finished else (PRODUCT, SELECTION, STEPS)
    yield from (name for name in names if any(kind.fullmatch(name) for kind in kinds))
    if is_finished:
        yield from (name for name in TABLES if storage.exists(results.path(name)))
        yield from (f"best/{name}" for name in _visible(storage.list_files(results.best_folder)))


def _visible(names: Iterable[str]) -> list[str]:
    """Return the names without hidden files, which are temporary."""
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _journal_faults(results: Results, entry: Entry | None) -> list[Fault]:
    path = results.journal_path
    if not storage.exists(path):
        has_trials = entry is not None or bool(storage.list_names(results.trials_folder))
        return [Fault(JOURNAL, LOST)] if has_trials else []
    if entry is not None:
        content = storage.read_bytes(path)
        if len(content) < entry.num_bytes:
            return [Fault(JOURNAL, f"damaged ({len(content)} bytes instead of at least {entry.num_bytes})")]
        if hashlib.sha256(content[: entry.num_bytes]).hexdigest() != entry.sha256:
            return [Fault(JOURNAL, "damaged (its content differs from its checksum)")]
    reason = unknown_trials(results)
    return [Fault(JOURNAL, _damage(reason))] if reason else []


def _implied(results: Results, *, is_finished: bool) -> Iterator[str]:
    """Yield the files that the tables of a folder without ledger speak of."""
    for trial in _rows_of(results.trials) or []:
        yield from _implied_by(trial)
    if not is_finished:
        return
    try:
        selection = read_object(results.selection_path)
        finalists: Mapping[str, Any] = selection["candidates"]
        members = [member for about in finalists.values() for member in about["members"]]
        digests = {name: about["digest"] for name, about in finalists.items()}
    # A choice by an earlier version may lack members and digests.
    except (FileNotFoundError, ResultsError, AttributeError, KeyError, TypeError):
        members, digests = [], {}
    yield "final/selection.json"
    for folder in ("best", *(f"trials/{member}" for member in members)):
        yield from (f"{folder}/{file}" for file in (MODEL_FILE, CONFIG_FILE))
    yield from _implied_products(_rows_of(results.measurements) or [], digests)


def _implied_by(trial: Trial) -> list[str]:
    if trial.state in UNFINISHED:
        return []
    return [f"trials/{trial.name}/trial.json", *([f"trials/{trial.name}/epochs.jsonl"] if trial.epochs else [])]


def _implied_products(rows: Iterable[Measurement], digests: Mapping[str, str]) -> Iterator[str]:
    for method, case, split in {(row.checkpoint, row.case, row.split) for row in rows if row.checkpoint in digests}:
        yield f"final/parts/{split}-{method}-{digests[method]}-{case}.parquet"
        yield f"final/masks/{method}/{case}.nii.gz"
        yield f"final/roi_labels/{method}/{case}.npz"


def _rows_of(read: Any) -> Any:
    """Return the rows of a table; None where it is missing or damaged."""
    try:
        return read()
    except ResultsError:
        return None
