"""What every command line shares: exit codes, one-line errors, logging, progress, stopping when asked to."""

import errno
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typer.exceptions import TyperException

from renalnet import log
from renalnet.errors import LostError, RenalnetError
from renalnet.storage import FULL

LOST_RESOURCE = 1
USER_ERROR = 2
"""Exit code for what the user can mend; 0 is done, 1 a bug or a lost resource."""
_OF_THE_PATH: Final = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""What Python has no exception of its own for, and another path mends."""
LINE_EVERY_S: Final = 30.0


def run(app: typer.Typer) -> NoReturn:
    """Run a command line: anything the user can mend ends in one line on stderr and exit code 2."""
    log.configure(verbose=bool(os.environ.get("RENALNET_VERBOSE")))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows another one
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except LostError as error:
        fail(str(error), LOST_RESOURCE)
    except RenalnetError as error:
        fail(str(error))
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        fail(f"{error}; name a path of the right kind that may be read and written")
    except OSError as error:
        if error.errno in FULL:
            fail(f"{error}: the disk or a quota is full; make room, then repeat the command", LOST_RESOURCE)
        if error.errno in _OF_THE_PATH:
            fail(f"{error}; name a path that may be read and written")
        if error.errno is not None:
            raise
        fail(f"{error}; check the storage's address, and that you may read and write there")  # pyarrow's
    except TyperException as error:
        fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def num_cores() -> int:
    """Processor cores that this process may use; fewer than the machine's on a shared node."""
    return len(os.sched_getaffinity(0))


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print `error: message` as one line and exit."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(code)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """What has become of a stage, told (stage, done, total): count, rate, time left.

    A bar on stderr; where no terminal is there, a line every `LINE_EVERY_S` seconds, and one as so long a stage ends.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _StageLines(console).show
        return
    columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), _RateColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, completed=done)
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextmanager
def step_progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """A bar on stderr of the part of a job that is under way, told (part, done, total, words); none without a terminal.

    Lines printed meanwhile on the same terminal come out above it.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    words_column = TextColumn("{task.fields[words]}")
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        words_column,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=None, words="", visible=False)
        shown = ""

        def show(part: str, done: int, total: int, words: str) -> None:
            nonlocal shown
            if part != shown:
                progress.reset(task, total=total, completed=done, visible=True)
                shown = part
            progress.update(task, description=part, completed=done, total=total, words=words)

        yield show


@dataclass
class StopRequest:
    """Whether a signal has asked this process to stop."""

    signal_number: int = 0

    @property
    def is_made(self) -> bool:
        """Whether one has come."""
        return self.signal_number != 0

    @property
    def exit_code(self) -> int:
        """What shells give a process that the signal ended: 143 for SIGTERM, 130 for SIGINT; 0 without one."""
        return 128 + self.signal_number if self.is_made else 0


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Inside, the first SIGTERM or SIGINT asks to stop at the next good moment; a second one acts as ever."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _: FrameType | None) -> None:
        request.signal_number = number
        give_back()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        give_back()


def duration_words(seconds: float) -> str:
    """A duration in its two largest units: 12 s, 4 min 10 s, 3 h 20 min, 11 d 19 h."""
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if parts or count or name == "s":
            parts.append((count, name))
    return " ".join(f"{count} {name}" for place, (count, name) in enumerate(parts[:2]) if count or not place)


class _RateColumn(ProgressColumn):
    """Cases a second."""

    def render(self, task: Task) -> Text:
        """Empty until it is known."""
        return Text(_rate_words(task.finished_speed or task.speed or 0.0))


@dataclass
class _StageLines:
    """Progress as lines of a log."""

    console: Console
    _began: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When a stage was first heard of, and how much of it was done then."""
    _said: float = 0.0

    def show(self, stage: str, done: int, total: int) -> None:
        """Say where a stage is, if it has ended or nothing was said for long."""
        now = time.monotonic()
        began, done_before = self._began.setdefault(stage, (now, done))
        is_due = now - max(self._said, began) >= LINE_EVERY_S
        ends_long_stage = done == total and now - began >= LINE_EVERY_S
        if not (is_due or ends_long_stage):
            return
        self._said = now
        rate = (done - done_before) / (now - began) if now > began else 0.0
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if rate and done < total else ""
        words = ", ".join(filter(None, [f"{stage} {done} of {total}", _rate_words(rate)]))
        self.console.print(words + left, highlight=False)


def _rate_words(rate: float) -> str:
    if rate <= 0:
        return ""
    return f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
