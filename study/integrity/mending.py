"""Lost and damaged files of a results folder are restored from other copies, or left to be made again.

A study that is resumed mends its folder first (`mend_study`). It stops where a file has no other copy and cannot be
made again, before anything is overwritten. `python -m study.verify --repair` mends a folder without resuming it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from renalnet.errors import ResultsError
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.integrity.completion import keep_texts
from study.integrity.copies import find_copy, members_of_finalists, order_of
from study.integrity.inspection import LOST, Fault, Inspection, inspect
from study.integrity.kinds import BEST, PRODUCT, SELECTION, STEPS, WEIGHTS, case_of, is_derived
from study.records.ledger import LEDGER, Ledger, LedgerContent, entries_of
from study.records.manifest import find_manifest
from study.records.results import JOURNAL, MANIFEST, Results

Remedy: TypeAlias = Literal["restored", "to make again", "left out", "none"]
"""What becomes of a file. `left out`: weights that the study can do without."""
_NUM_NAMED: Final = 3
"""Files of one kind that a line names."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Mended:
    """A lost or damaged file, and what becomes of it."""

    fault: Fault
    remedy: Remedy
    source: str = ""
    """Where its content was found, in words; empty unless it was restored."""

    @property
    def words(self) -> str:
        """What becomes of it, in words."""
        return f"restored from {self.source}" if self.source else _WORDS[self.remedy]


_WORDS: Final[dict[Remedy, str]] = {
    "restored": "made again",
    "to make again": "the study's command makes it again",
    "left out": "there is no other copy, and the study goes on without it",
    "none": "there is no other copy",
}


def mend_manifest(results: Results) -> None:
    """Restore a lost or damaged manifest as `restore_manifest` does, and say so."""
    mended = restore_manifest(results)
    for line in _lines(results, [mended] if mended else []):
        _log.warning("%s", line)


def restore_manifest(results: Results) -> Mended | None:
    """Restore a lost or damaged manifest from the ledger; return None where there is nothing to restore.

    Raises:
        ResultsError: it is damaged, and the ledger has no copy of it.
    """
    damage = None
    try:
        if find_manifest(results) is not None:
            return None
    except ResultsError as error:
        damage = error
    text = _kept_manifest(results)
    if text is not None:
        storage.write_bytes(results.manifest_path, text.encode())
        return Mended(Fault(MANIFEST, "damaged" if damage else LOST), "restored", "the copy in the ledger")
    if damage is not None:
        raise ResultsError(
            f"{damage}".split("; ")[0]
            + ", and there is no other copy; restore it from a backup, or choose another folder with --results"
        ) from damage
    return None  # no results folder, or none with a ledger: the caller says so


def _kept_manifest(results: Results) -> str | None:
    try:
        known = Ledger(results).find()
    except ResultsError:
        return None
    return known.copies.get(MANIFEST) if known else None


def mend_study(results: Results) -> None:
    """Mend a results folder before its study is resumed, and say on one line each what was mended.

    Afterwards the ledger names the whole files alone, without the tables that every run writes again.

    Raises:
        ResultsError: a file has no other copy and cannot be made again.
    """
    if find_manifest(results) is None:
        return
    inspection = inspect(results)
    if inspection.is_adopted and inspection.ledger.files:
        _log.info("%s has no %s; it is made of the files that can be read", results, LEDGER)
    mended = mend(results, inspection)
    for line in _lines(results, [each for each in mended if each.remedy != "none"]):
        _log.warning("%s", line)
    _require(results, mended)
    clear(results, inspection, mended)
    _write_ledger(results, inspection, mended)
    if inspection.is_adopted:
        keep_texts(results)


def mend(results: Results, inspection: Inspection, *, gives_up: bool = False) -> list[Mended]:
    """Restore what has another copy. The ledger is not changed, and nothing is deleted.

    Args:
        results: the results folder.
        inspection: its faults.
        gives_up: leave out the weights of finalists as well, so that the next best trials take their place.

    Returns:
        What becomes of each fault.
    """
    faults = sorted(inspection.faults, key=lambda fault: (order_of(fault.name), fault.name))
    return [_mend(results, fault, inspection.ledger, gives_up=gives_up) for fault in faults]


def _mend(results: Results, fault: Fault, ledger: LedgerContent, *, gives_up: bool) -> Mended:
    copy = find_copy(results, fault.name, ledger)
    if copy is not None:
        storage.write_bytes(results.path(fault.name), copy.content)
        return Mended(fault, "restored", copy.source)
    return Mended(fault, _remedy(results, fault.name, gives_up=gives_up))


def _remedy(results: Results, name: str, *, gives_up: bool) -> Remedy:
    if name == LEDGER:
        return "restored"
    if is_derived(name) or any(kind.fullmatch(name) for kind in (PRODUCT, STEPS, BEST)):
        return "to make again"
    if gives_up and SELECTION.fullmatch(name):
        return "left out"
    weights = WEIGHTS.fullmatch(name)
    is_spare = weights is not None and (gives_up or weights["trial"] not in members_of_finalists(results))
    return "left out" if is_spare else "none"


def clear(results: Results, inspection: Inspection, mended: Iterable[Mended], *, gives_up: bool = False) -> None:
    """Delete what would keep the study from making files again, or from going on without them.

    Args:
        results: the results folder.
        inspection: its faults.
        mended: what becomes of them.
        gives_up: delete what is left of the files that are left out, too.
    """
    again = [each.fault.name for each in mended if each.remedy == "to make again"]
    left_out = [each.fault.name for each in mended if each.remedy == "left out"] if gives_up else []
    # A case with measurements is not measured again, and a choice that is there is not made again.
    for name in (*_measurements_of(inspection.ledger.files, again), *filter(STEPS.fullmatch, again), *left_out):
        storage.delete(results.path(name))


def _measurements_of(files: Iterable[str], products: Iterable[str]) -> list[str]:
    """Return the parts of the cases that some products belong to, damaged parts included."""
    names = list(products)
    cases = {case_of(name) for name in names} - {None}
    parts = (name for name in {*files, *names} if name.startswith("final/parts/"))
    return [name for name in parts if case_of(name) in cases]


def _require(results: Results, mended: Sequence[Mended]) -> None:
    lost = [each.fault for each in mended if each.remedy == "none"]
    if not lost:
        return
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    can_do_without = all(WEIGHTS.fullmatch(fault.name) or SELECTION.fullmatch(fault.name) for fault in lost)
    otherwise = f", or run python -m study.verify {results} --repair to go on without it" if can_do_without else ""
    raise ResultsError(
        f"{results.path(lost[0].name)}: {lost[0].what}, and there is no other copy{more}; restore it from a "
        f"backup{otherwise}; nothing was overwritten"
    )


def _write_ledger(results: Results, inspection: Inspection, mended: Sequence[Mended]) -> None:
    """Write the ledger of the whole files; what every run writes again enters it when it is written."""
    gone = {each.fault.name for each in mended if not each.source and not BEST.fullmatch(each.fault.name)}
    cases = {case_of(name) for name in gone} - {None}
    content = with_restored(results, inspection, mended)
    kept = {
        name: entry
        for name, entry in content.files.items()
        if name not in gone and not is_derived(name) and case_of(name) not in cases
    }
    if kept != content.files or mended or inspection.is_adopted:
        Ledger(results).write(replace(content, files=kept))


def with_restored(results: Results, inspection: Inspection, mended: Iterable[Mended]) -> LedgerContent:
    """Return the ledger of an inspection with the restored files. A rebuilt journal enters it after the search."""
    names = [each.fault.name for each in mended if each.source]
    files = {name: entry for name, entry in inspection.ledger.files.items() if name != JOURNAL or name not in names}
    restored = entries_of(results, (name for name in names if name != JOURNAL))
    return replace(inspection.ledger, files={**files, **restored})


def _lines(results: Results, mended: Iterable[Mended]) -> list[str]:
    """Return one line for the files of one kind with one remedy."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in mended:
        kind = "/".join(each.fault.name.split("/")[:2]) if PRODUCT.fullmatch(each.fault.name) else each.fault.name
        groups.setdefault((kind, each.fault.what, each.words), []).append(each.fault.name)
    return [f"{results}: {_named(names)}: {what}; {words}" for (_, what, words), names in groups.items()]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return f"{', '.join(names[:_NUM_NAMED])}{more}"
