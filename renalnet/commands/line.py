"""What all command lines share: exit codes, errors in one line, logging, and stopping at a signal."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import FrameType
from typing import Final, NoReturn

import typer
from typer.exceptions import TyperException

from renalnet.errors import LostError, RenalnetError, StoppedError
from renalnet.runtime import log
from renalnet.runtime.machine import sleep_while_waiting
from renalnet.runtime.storage import FULL

LOST_RESOURCE: Final = 1
"""Exit code if a resource was lost or a run failed. Python uses it for a bug, too."""
USER_ERROR: Final = 2
"""Exit code of an error that the user can fix."""
INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code that shells give a process that Ctrl-C ended."""
_PATH_ERRORS: Final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_PATH_ERRNOS: Final = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""Other error numbers of a path that cannot be used; Python has no exception classes for them."""


def run(app: typer.Typer) -> NoReturn:
    """Run a command line. An error that the user can fix ends in one line on stderr and exit code 2.

    `--version` alone prints the version, in all command lines.
    """
    if sys.argv[1:] == ["--version"]:
        typer.echo(f"renalnet {version('renalnet')}")
        sys.exit()
    sleep_while_waiting()  # before a command imports PyTorch
    log.configure(verbose=bool(os.environ.get("RENALNET_VERBOSE")))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal cannot show is no error
    with _ending_in_one_line_at_sigterm():
        _run_to_its_end(app)


def _run_to_its_end(app: typer.Typer) -> NoReturn:
    try:
        sys.exit(app(standalone_mode=False) or 0)  # in standalone mode, typer prints its own errors on several lines
    except LostError as error:  # before RenalnetError, of which it is a subclass
        fail(str(error), LOST_RESOURCE)
    except StoppedError as error:
        fail(str(error), 128 + error.signal_number)
    except RenalnetError as error:
        fail(str(error))
    except OSError as error:
        _fail_by_system_error(error)
    except TyperException as error:
        fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (MemoryError, RuntimeError) as error:
        _fail_without_memory(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)


class _Terminated(BaseException):
    """SIGTERM arrived. It is no Exception, because a command over many scans goes on after the error of one."""


@contextmanager
def _ending_in_one_line_at_sigterm() -> Iterator[None]:
    """Let a command that gets SIGTERM tidy up and end in one line, as with an error."""
    own_pid = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends a process that cannot tidy up
        if os.getpid() == own_pid:
            raise _Terminated
        os.kill(os.getpid(), number)  # a forked worker, which has nothing to say

    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:  # a caller may have it ignored, as `nohup` does with SIGHUP
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        fail("stopped by SIGTERM; what is finished is kept; repeat the command to go on", 128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail_by_system_error(error: OSError) -> NoReturn:
    if isinstance(error, _PATH_ERRORS):
        fail(f"{error}; name a path of the right kind that may be read and written")
    if error.errno in FULL:
        fail(f"{error}: the disk or a quota is full; make room, then repeat the command", LOST_RESOURCE)
    if error.errno in _PATH_ERRNOS:
        fail(f"{error}; name a path that may be read and written")
    if error.errno is not None:
        raise error  # not the user's to fix, such as a failing disk: the traceback stays
    # Errors of object stores, which pyarrow raises without a number.
    fail(f"{error}; check the address of the storage, and your permission to read and write there")


def _fail_without_memory(error: MemoryError | RuntimeError) -> NoReturn:
    # Imported here, because it imports PyTorch.
    from renalnet.runtime.device import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    reason = f"{error}".partition("\n")[0] or "no memory is left"
    fail(f"memory ran out ({reason}); lower the sizes in the configuration, or use a node with more memory")


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print `error: message` as one line and exit."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(code)


def fail_at_once(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print as `fail` does and end the process from any thread, where the main thread cannot be reached.

    Nothing is tidied up. Files are whole at any time, and the lease of a process that has ended is taken over.
    """
    with suppress(SystemExit):
        fail(message, code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass
class StopRequest:
    """A request to stop this process, made by a signal."""

    signal_number: int = 0
    """Number of the signal; 0 before there is one."""

    @property
    def is_made(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number != 0

    @property
    def exit_code(self) -> int:
        """Exit code as shells give it to a process that a signal ended, such as 143 for SIGTERM; 0 without a signal."""
        return 128 + self.signal_number if self.is_made else 0


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn the first SIGTERM or SIGINT inside the block into a request to stop.

    The caller reads the request and stops when it can. A second signal has its usual effect.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _: FrameType | None) -> None:
        request.signal_number = number
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
