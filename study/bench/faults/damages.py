"""Lost and damaged files on copies of a finished study.

Each damaged file of finished work has to be named. It is restored from another copy, made again by the study's command,
or the command stops in one line and overwrites nothing. Most copies are mended in this process, as the command mends a
folder before it resumes the study. Some are left to the command itself.
"""

import logging
import re
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator

from renalnet.commands.line import USER_ERROR
from renalnet.errors import RenalnetError
from study.bench.faults.kills import Undisturbed
from study.bench.measuring.tiny_study import Verdict, wait
from study.integrity.inspection import inspect
from study.integrity.mending import mend_manifest, mend_study
from study.records.ledger import LEDGER, Ledger, LedgerContent
from study.records.manifest import known_study
from study.records.results import JOURNAL, MANIFEST, Results
from study.records.trials import read_curves, read_records

Contents = Mapping[str, bytes]
"""Content of each file of a results folder, by its name relative to it."""
_OTHER_TYPE: Final = b"[]\n"
_REMADE: Final = "the study's command makes it again"
_GIVEN_UP: Final = "the study goes on without it"
"""Words of a line about a file that the study has, but does not need."""


def _lose(path: Path, _: list[Path], __: Generator) -> None:
    path.unlink()


def _empty(path: Path, _: list[Path], __: Generator) -> None:
    path.write_bytes(b"")


def _cut(path: Path, _: list[Path], generator: Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: generator.integers(len(content))])


def _flip(path: Path, _: list[Path], generator: Generator) -> None:
    content = bytearray(path.read_bytes())
    content[generator.integers(len(content))] ^= 1 << generator.integers(8)
    path.write_bytes(content)


def _change_type(path: Path, _: list[Path], __: Generator) -> None:
    path.write_bytes(_OTHER_TYPE)


def _swap(path: Path, others: list[Path], generator: Generator) -> None:
    """Replace a file by another one of its kind; flip a bit where there is none with another content."""
    content = path.read_bytes()
    differing = [other for other in others if other.read_bytes() != content]
    if not differing:
        _flip(path, others, generator)
        return
    shutil.copyfile(differing[generator.integers(len(differing))], path)


DAMAGES: Final[Mapping[str, Callable[[Path, list[Path], Generator], None]]] = {
    "lost": _lose,
    "emptied": _empty,
    "cut": _cut,
    "one bit flipped": _flip,
    "of another type": _change_type,
    "swapped": _swap,
}


def kinds(results: Path) -> dict[str, list[str]]:
    """Return the names of the files of a results folder by their kind, without leases and what the terminal showed.

    Files are of one kind if their names differ only in trial, case, number, time or figure.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_file() and not path.name.startswith(".lease"):
            found.setdefault(_kind(name), []).append(name)
    return found


def _kind(name: str) -> str:
    parts = name.split("/")
    if parts[0] in ("figures", "tables", "tune"):
        return f"{parts[0]}/*{Path(name).suffix}"
    return "/".join(re.sub(r"^.*\d.*?(\.[a-z.]+)?$", r"*\1", part) for part in parts)


def damage_verdicts(
    undisturbed: Undisturbed, folder: Path, number: int, num_by_command: int, seed: int
) -> Iterator[Verdict]:
    """Damage a file of a copy of the undisturbed study, `number` times; kinds of files come about equally often.

    Args:
        undisturbed: the finished study.
        folder: an empty folder for the copies.
        number: number of copies.
        num_by_command: number of them that the study's command resumes.
        seed: of the files and damages.
    """
    generator = np.random.default_rng(seed)
    by_kind = kinds(undisturbed.results)
    order = [kind for _ in range(-(-number // len(by_kind))) for kind in generator.permutation(sorted(by_kind))]
    every = -(-number // num_by_command) if num_by_command else number + 1
    for place, kind in enumerate(order[:number]):
        copy = folder / f"copy-{place}"
        shutil.copytree(undisturbed.results, copy, ignore=shutil.ignore_patterns(".lease*"))
        damaged = _damage(copy, by_kind[kind], generator)
        is_by_command = place % every == every - 1
        yield _resumed(undisturbed, damaged) if is_by_command else _mended(undisturbed, damaged)
        shutil.rmtree(copy)


@dataclass(frozen=True)
class _Damaged:
    """A results folder one of whose files was damaged."""

    results: Path
    name: str
    """The file, relative to the folder."""
    words: str
    before: Contents
    """The folder before the damage."""
    ledger: LedgerContent
    """The ledger before the damage."""

    @property
    def is_finished_work(self) -> bool:
        """Whether the study has to miss the file."""
        return self.name in self.ledger.files or self.name in (MANIFEST, LEDGER)

    def contents(self) -> Contents:
        """Return the folder as it is now, without the damaged file."""
        return {name: content for name, content in _contents(self.results).items() if name != self.name}


def _damage(results: Path, names: list[str], generator: Generator) -> _Damaged:
    """Damage one of some files in one way until its content differs."""
    before = _contents(results)
    ledger = Ledger(Results(str(results))).find() or LedgerContent()
    while True:
        name = names[generator.integers(len(names))]
        how = sorted(DAMAGES)[generator.integers(len(DAMAGES))]
        path = results / name
        if before[name] or how == "lost":  # an empty file cannot be cut
            DAMAGES[how](path, [results / other for other in names if other != name], generator)
        if not path.exists() or path.read_bytes() != before[name]:
            return _Damaged(results, name, f"{name} {how}", before, ledger)


def _contents(results: Path) -> Contents:
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def _mended(undisturbed: Undisturbed, damaged: _Damaged) -> Verdict:
    """Mend a copy in this process, as the study's command does, and return the verdict."""
    results = Results(str(damaged.results))
    sound = Verdict(damaged.words)
    try:
        with _messages() as lines:
            mend_manifest(results)
            known_study(results, undisturbed.study.settings(), undisturbed.study.store)
            mend_study(results)
    except RenalnetError as error:
        return _refused(damaged, f"{error}")
    except Exception as error:  # noqa: BLE001 - the command would end in a traceback, for which the bench looks
        return replace(sound, why=f"{type(error).__name__}: {error}", has_traceback=True)
    said = " ".join(line for line in lines if damaged.name in line)
    if damaged.is_finished_work and not said:
        return replace(sound, why="no line names it", is_silent=True)
    is_restored = _contents(damaged.results).get(damaged.name) == damaged.before[damaged.name]
    is_left = _REMADE in said or _GIVEN_UP in said
    # The journal has times, and the ledger has no tables before the study's end.
    is_exact = is_restored or damaged.name in (JOURNAL, LEDGER) or not damaged.is_finished_work
    if not (is_exact or is_left):
        return replace(sound, why=f"not as before: {said}")
    return _with_trials(undisturbed, results, sound, {damaged.name} if is_left else set())


def _with_trials(undisturbed: Undisturbed, results: Results, verdict: Verdict, left: Container[str]) -> Verdict:
    """Return a verdict, made worse where the mended folder has other trials, or faults besides the files `left`."""
    whole = Results(str(undisturbed.results))
    records = read_records(whole)
    curves = read_curves(whole, records)
    now = {record.name: record for record in read_records(results)}
    kept = read_curves(results, list(now.values()))
    lost = [each.name for each in records if now.get(each.name) != each or kept[each.name] != curves[each.name]]
    faults = [fault for fault in inspect(results, is_full=True).faults if fault.name not in left]
    why = f"lost trials: {', '.join(lost)}" if lost else "; ".join(map(str, faults))
    return replace(verdict, why=why, num_lost=len(lost))


def _refused(damaged: _Damaged, message: str) -> Verdict:
    """Return the verdict on a folder that the study's command refuses."""
    verdict = Verdict(damaged.words, is_refused=True)
    if "\n" in message or damaged.name not in message:
        return replace(verdict, why=f"refused without its name: {message}")
    before = {name: content for name, content in damaged.before.items() if name != damaged.name}
    is_kept = damaged.contents() == before
    return verdict if is_kept else replace(verdict, why="refused, and other files were overwritten")


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Yield the list of what the study logs within the block, and print nothing of it."""
    logger = logging.getLogger("study")
    before = (logger.handlers, logger.level)
    handler = _Lines()
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.handlers = before[0]
        logger.setLevel(before[1])


def _resumed(undisturbed: Undisturbed, damaged: _Damaged) -> Verdict:
    """Run the study's command on a copy, and return the verdict."""
    ended = wait(undisturbed.study.start(damaged.results), undisturbed.timeout_s)
    sound = Verdict(f"{damaged.words}, by the command")
    if ended.has_traceback:
        return replace(sound, why=" ".join(ended.said)[-200:], has_traceback=True)
    if ended.code == USER_ERROR:
        return _refused(damaged, "\n".join(ended.said))
    if ended.code:
        return replace(sound, why=f"exit code {ended.code}: {' '.join(ended.said)[:200]}")
    if damaged.is_finished_work and damaged.name not in ended.stderr:
        return replace(sound, why="no line names it", is_silent=True)
    differs, is_other_winner = undisturbed.difference(damaged.results)
    if differs:
        return replace(sound, why=differs, is_other_winner=is_other_winner)
    return _with_trials(undisturbed, Results(str(damaged.results)), sound, set())
