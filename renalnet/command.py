"""What every command line shares: exit codes, one-line errors, logging, progress."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typer.exceptions import TyperException

from renalnet import log
from renalnet.errors import RenalnetError

USER_ERROR = 2
"""Exit code for what the user can mend; 0 is done, 1 a bug or a lost resource."""


def run(app: typer.Typer) -> NoReturn:
    """Run a command line: anything the user can mend ends in one line on stderr and exit code 2."""
    log.configure(verbose=bool(os.environ.get("RENALNET_VERBOSE")))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows another one
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except RenalnetError as error:
        fail(str(error))
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        fail(f"{error}; name a path of the right kind that may be read and written")
    except TyperException as error:
        fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def num_cores() -> int:
    """Processor cores that this process may use; fewer than the machine's on a shared node."""
    return len(os.sched_getaffinity(0))


def fail(message: str) -> NoReturn:
    """Print `error: message` as one line and exit 2."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(USER_ERROR)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage on stderr, told (stage, done, total); where no terminal is there, one line as a stage ends."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield show
