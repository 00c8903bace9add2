"""Progress on stderr: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

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

LINE_EVERY_S: Final = 30.0


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
