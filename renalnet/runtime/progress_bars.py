"""Progress on stderr: bars on a terminal, lines of text elsewhere."""

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
"""Seconds between two lines where stderr is not a terminal."""


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the count, rate and remaining time of each stage of a job.

    Inside the block, the caller reports progress by calling the yielded function with (stage, done, total). On a
    terminal each stage has a bar. Elsewhere a line is printed every `LINE_EVERY_S` seconds, and at the end of a stage
    that took at least that long.
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
                # What an earlier run finished is done from the start, so that it does not count in the rate.
                tasks[stage] = progress.add_task(stage, total=total, completed=done)
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextmanager
def step_progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """Show one bar for the current part of a job. Without a terminal, nothing is shown.

    Inside the block, the caller reports progress by calling the yielded function with (part, done, total, text). Lines
    that are printed on the same terminal appear above the bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    part_column = TextColumn("{task.description:>8}")
    text_column = TextColumn("{task.fields[text]}")
    columns = part_column, BarColumn(), MofNCompleteColumn(), text_column, TimeRemainingColumn()
    # Where stdout is a file or a pipe, its lines must go there and not above the bar on stderr.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=None, text="", visible=False)
        shown = ""

        def show(part: str, done: int, total: int, text: str) -> None:
            nonlocal shown
            if part != shown:  # a new part starts the bar and its clock again
                progress.reset(task, total=total, completed=done, visible=True)
                shown = part
            progress.update(task, description=part, completed=done, total=total, text=text)

        yield show


class _RateColumn(ProgressColumn):
    """Column of the rate, in cases per second or per minute."""

    def render(self, task: Task) -> Text:
        """Return the rate, or empty text until it is known."""
        return Text(_rate_text(task.finished_speed or task.speed or 0.0))


@dataclass
class _StageLines:
    """Progress as lines of text."""

    console: Console
    _began: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Time of the first report of each stage, and how much was done at that time."""
    _printed: float = 0.0
    """Time of the last line, on the monotonic clock, in seconds."""

    def show(self, stage: str, done: int, total: int) -> None:
        """Print the progress of a stage if a line is due, or if a long stage has ended."""
        now = time.monotonic()
        began, done_before = self._began.setdefault(stage, (now, done))
        # The first line of a stage is due `LINE_EVERY_S` after its start: short stages print nothing.
        is_due = now - max(self._printed, began) >= LINE_EVERY_S
        ends_long_stage = done == total and now - began >= LINE_EVERY_S
        if not (is_due or ends_long_stage):
            return
        self._printed = now
        rate = (done - done_before) / (now - began) if now > began else 0.0
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if rate and done < total else ""
        text = ", ".join(filter(None, [f"{stage} {done} of {total}", _rate_text(rate)]))
        self.console.print(text + left, highlight=False, markup=False)


def _rate_text(rate: float) -> str:
    if rate <= 0:
        return ""
    return f"{rate:.1f} per second" if rate >= 1 else f"{60 * rate:.1f} per minute"
