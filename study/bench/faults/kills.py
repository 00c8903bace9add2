"""Kills and full disks at random moments of tiny studies, each of which is repeated until it ends.

Each fault has to end the command with the right exit code and at most one line besides its log. The trials that have
ended by then have to be there at the end, and the study has to end as an undisturbed one.
"""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from renalnet.commands.line import USER_ERROR
from renalnet.errors import RenalnetError
from renalnet.runtime import process
from renalnet.runtime.log import get_logger
from study.bench.measuring.tiny_study import Ended, TinyStudy, Verdict, outcome, wait
from study.records.results import Results
from study.records.trials import read_all_records

Driver = subprocess.Popen[str]
FAULTS_PER_STUDY: Final = 4
"""Faults that strike one study, one after the other, before it may end."""
_MAX_DELAY_S: Final = 1.0
"""Longest time from the moment at which the folder has as many files as drawn to the fault."""
_LOOK_EVERY_S: Final = 0.05
_LEAVE_S: Final = 30.0
"""Time that the processes of a command have to end after it."""
_MAX_FILE_BYTES: Final = 1024
"""Largest file that a trial may write on a full disk."""
_NO_WORK: Final = re.compile(r"^ray::(IDLE|\w*Agent\b)")
"""Names of Ray's processes that neither train nor infer."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Kill:
    """A fault of the machine."""

    name: str
    targets: Callable[[Driver], list[int]]
    """Returns the processes that it strikes; empty where there are none at the moment."""
    strike: Callable[[int, Path], None]
    """Strikes one process of a study with a results folder."""
    codes: tuple[int, ...]
    """Exit codes with which the command may end. 0: it goes on, or it had nothing left to do."""


def _driver(driver: Driver) -> list[int]:
    return [driver.pid]


def _named(word: str) -> Callable[[Driver], list[int]]:
    """Return what finds the processes whose program is named so."""
    return lambda driver: [pid for pid in process.descendants(driver.pid) if word in _words(pid).partition(" ")[0]]


def _workers(driver: Driver) -> list[int]:
    """Return the processes that train or infer."""
    words = {pid: _words(pid) for pid in process.descendants(driver.pid)}
    return [pid for pid, each in words.items() if each.startswith("ray::") and not _NO_WORK.search(each)]


def _words(pid: int) -> str:
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return ""
    return content.replace(b"\0", b" ").decode(errors="replace")


def _send(number: int) -> Callable[[int, Path], None]:
    return lambda pid, _: os.kill(pid, number)


def _fill_disk_of_worker(pid: int, _: Path) -> None:
    # The kernel refuses to write beyond the limit, as a full disk refuses to write at all.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, resource.RLIM_INFINITY))


def _fill_disk_of_driver(pid: int, results: Path) -> None:
    """Let the driver write no file that is larger than its journal is now."""
    journal = Path(Results(str(results)).journal_path)
    size = journal.stat().st_size if journal.exists() else _MAX_FILE_BYTES
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


# While its modules are imported, SIGTERM ends a command as it ends every program.
KILLS: Final = (
    Kill("kill -9 of the driver", _driver, _send(signal.SIGKILL), (-signal.SIGKILL,)),
    Kill("kill -9 of a worker", _workers, _send(signal.SIGKILL), (0,)),
    Kill("kill -9 of the raylet", _named("raylet"), _send(signal.SIGKILL), (2, 0)),
    Kill("full disk of a worker", _workers, _fill_disk_of_worker, (2, 0)),
    Kill("SIGTERM of the driver", _driver, _send(signal.SIGTERM), (128 + signal.SIGTERM, -signal.SIGTERM)),
    Kill("kill -9 of the GCS", _named("gcs_server"), _send(signal.SIGKILL), (2, 0)),
    Kill("full disk of the driver", _driver, _fill_disk_of_driver, (2, 0)),
    Kill("Ctrl-C", _driver, _send(signal.SIGINT), (128 + signal.SIGINT, -signal.SIGINT)),
)


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed study, with which others are compared."""

    study: TinyStudy
    results: Path
    duration_s: float

    @cached_property
    def num_files(self) -> int:
        """Number of its files."""
        return _num_files(self.results)

    @property
    def timeout_s(self) -> float:
        """Time after which a command is taken to hang."""
        return 5 * self.duration_s + 120

    def difference(self, results: Path) -> tuple[str, bool]:
        """Return how the end of another study differs, empty if it does not, and whether its winner is another one."""
        try:
            other = outcome(Results(str(results)))
        except (RenalnetError, OSError) as error:
            return f"its results cannot be read: {error}", True
        own = outcome(Results(str(self.results)))
        differing = [name for name, value in own.items() if other[name] != value]
        return f"other {', '.join(differing)}" if differing else "", bool({"winner", "weights"} & {*differing})


def kill_verdicts(undisturbed: Undisturbed, folder: Path, number: int, seed: int) -> Iterator[Verdict]:
    """Strike tiny studies, one after the other, until they were struck `number` times. Each kind comes equally often.

    Args:
        undisturbed: the study and its end without faults.
        folder: an empty folder for their results.
        number: number of faults.
        seed: of the order of the faults and of their moments.
    """
    # A shell lets what it starts in the background ignore Ctrl-C, and the studies would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    generator = np.random.default_rng(seed)
    left = [KILLS[place % len(KILLS)] for place in generator.permutation(number)]
    lives = 0
    # A study may end before its fault, so that the fault strikes the next one.
    while left and lives < 2 * number:
        life = _Life(undisturbed, folder / f"study-{lives}", generator)
        verdicts = life.run(left[:FAULTS_PER_STUDY])
        left = left[len(verdicts) :]
        lives += 1
        yield from verdicts


@dataclass(frozen=True)
class _Life:
    """A study from its first command to its end."""

    undisturbed: Undisturbed
    results: Path
    generator: Generator

    def run(self, kills: Sequence[Kill]) -> list[Verdict]:
        """Let faults strike until one of them or nothing ends the study; return the verdicts of those that struck."""
        verdicts: list[Verdict] = []
        records: dict[str, Any] = {}
        is_done = False
        for kill in kills:
            struck, ended = self._strike(kill)
            is_done = ended is not None and ended.code == 0
            if struck and ended:
                verdicts.append(_judged(kill, struck, ended))
                _log.info("%s: exit code %d, %s", struck, ended.code, " ".join(ended.said)[:200] or "no line")
            elif struck:
                verdicts.append(Verdict(struck, f"the command did not end in {self.undisturbed.timeout_s:.0f} s"))
            records |= {} if is_done else _finished_records(self.results)
            if is_done or (verdicts and verdicts[-1].why):
                break
        if not is_done:
            ended = self._finish()
        return [self._at_the_end(verdict, records, ended) for verdict in verdicts]

    def _strike(self, kill: Kill) -> tuple[str, Ended | None]:
        """Run the command, and strike it once the folder has a random number of files.

        Returns:
            The fault in words, empty where the command ended before it; and how it ended, None where it did not.
        """
        present = _num_files(self.results)
        # By files, because the duration depends on what else the machine does.
        number = int(self.generator.integers(present, max(self.undisturbed.num_files, present + 1)))
        delay_s = float(self.generator.uniform(0, _MAX_DELAY_S))
        with _running(self.undisturbed.study.start(self.results)) as driver:
            targets = _targets(driver, kill, self.results, number, delay_s)
            started = _started_by(driver)
            for pid in targets:
                with suppress(ProcessLookupError):
                    kill.strike(pid, self.results)
            words = f"{kill.name} at {number} of {self.undisturbed.num_files} files" if targets else ""
            return words, _end(driver, started, self.undisturbed.timeout_s)

    def _finish(self) -> Ended | None:
        with _running(self.undisturbed.study.start(self.results)) as driver:
            return _end(driver, {}, self.undisturbed.timeout_s)

    def _at_the_end(self, verdict: Verdict, records: dict[str, Any], ended: Ended | None) -> Verdict:
        """Return a verdict that the end of the study may have made worse."""
        if verdict.why:
            return verdict
        if ended is None or ended.code:
            last = " ".join(ended.said)[:200] if ended else "it did not end"
            return replace(verdict, why=f"the repeated command failed: {last}")
        now = _finished_records(self.results)
        num_lost = sum(now.get(name) != record for name, record in records.items())
        differs, is_other_winner = self.undisturbed.difference(self.results)
        why = f"{num_lost} finished trials are lost" if num_lost else differs
        return replace(verdict, why=why, num_lost=num_lost, is_other_winner=is_other_winner)


def _targets(driver: Driver, kill: Kill, results: Path, number: int, delay_s: float) -> list[int]:
    """Wait for the moment of a fault, and return the processes that it strikes; empty where the command has ended."""
    while driver.poll() is None and _num_files(results) < number:
        time.sleep(_LOOK_EVERY_S)
    time.sleep(delay_s)
    while driver.poll() is None:
        if targets := kill.targets(driver):
            return targets
        time.sleep(_LOOK_EVERY_S)
    return []


def _num_files(results: Path) -> int:
    """Return the number of files of a study, without those of Ray Tune, which are more after each start."""
    try:
        return sum(path.is_file() for path in results.rglob("*") if "tune" not in path.parts)
    except FileNotFoundError:  # a file was replaced meanwhile
        return 0


@contextmanager
def _running(driver: Driver) -> Iterator[Driver]:
    """Kill a command that still runs at the end of the block."""
    try:
        yield driver
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.communicate()


def _judged(kill: Kill, struck: str, ended: Ended) -> Verdict:
    """Return the verdict on what the struck command printed."""
    if ended.has_traceback:
        return Verdict(struck, f"traceback: {' '.join(ended.said)[-200:]}", has_traceback=True)
    if ended.code not in kill.codes:
        return Verdict(struck, f"exit code {ended.code}: {' '.join(ended.said)[:200]}")
    errors = [line for line in ended.said if line.startswith("error: ")]
    is_one_line = len(ended.said) <= 1 and errors == ended.said and (ended.code != USER_ERROR or bool(errors))
    return Verdict(struck, "" if is_one_line else f"{len(ended.said)} lines: {' '.join(ended.said)[:200]}")


def _finished_records(results: Path) -> dict[str, Any]:
    """Return the records of the trials that have ended, by name."""
    try:
        records = read_all_records(Results(str(results)))
    except RenalnetError:
        return {}
    return {record.name: record for record in records if record.state in ("complete", "pruned")}


def _started_by(driver: Driver) -> dict[int, str]:
    """Return when each process of a command was started."""
    return {pid: process.start_of(pid) for pid in process.descendants(driver.pid)}


def _end(driver: Driver, started: dict[int, str], timeout_s: float) -> Ended | None:
    """Wait for the end of a command and of its processes; kill what is left. Return None where it did not end."""
    try:
        return wait(driver, timeout_s)
    except subprocess.TimeoutExpired:
        started = started | _started_by(driver)
        return None
    finally:
        until = time.monotonic() + _LEAVE_S
        while (left := _alive(started)) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _alive(started: dict[int, str]) -> list[int]:
    return [pid for pid, start in started.items() if start and process.is_alive(pid, start)]
