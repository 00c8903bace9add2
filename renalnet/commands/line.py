"""What every command line shares: exit codes, one-line errors, logging, progress, stopping when asked to."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

import typer
from typer.exceptions import TyperException

from renalnet.errors import LostError, RenalnetError
from renalnet.runtime import log
from renalnet.runtime.storage import FULL

LOST_RESOURCE = 1
USER_ERROR = 2
"""Exit code for what the user can mend; 0 is done, 1 a bug or a lost resource."""
_OF_THE_PATH: Final = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""What Python has no exception of its own for, and another path mends."""


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


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print `error: message` as one line and exit."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(code)


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
