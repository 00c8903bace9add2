"""The project's commands in processes of their own, forked from one server that has imported the libraries.

A process that starts from nothing imports PyTorch, SimpleITK, Ray and Optuna for seconds. Forked processes share these
imports, and otherwise are what a shell starts: own arguments, environment, working folder, streams and exit code.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

ROOT: Final = Path(__file__).parents[2]
PRELOADED: Final = [
    "renalnet.commands.app",
    "renalnet.prediction.scan_jobs",
    "renalnet.data.prepare.preparation",
    "renalnet.train.run",
    "renalnet.planning.files",
    "SimpleITK",
    "pydicom",
    "study.execution.driver",
    "study.report.pages.html",
    # Libraries that are imported when an optimizer is made, and when figures are drawn.
    "torch._dynamo",
    "scipy.stats",
    "mpl_toolkits.mplot3d",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
]
CONTEXT: Final = multiprocessing.get_context("forkserver")
"""Starts processes of any function from the same server."""
CONTEXT.set_forkserver_preload(PRELOADED)

_started: "weakref.WeakSet[Command]" = weakref.WeakSet()


class Command:
    """A running command, with the part of `subprocess.Popen` that tests need."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
        """Start `words`, the module and its arguments."""
        self.args = list(words)
        self._stdout = TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._stderr = TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, _close, self._stdout, self._stderr)
        environment = dict(os.environ if env is None else env)
        job = (self.args, environment, str(cwd), _Stream(self._stdout), _Stream(self._stderr))
        self._process = CONTEXT.Process(target=_run_module, args=job)
        self._process.start()
        self.pid: int = self._process.pid or 0
        _started.add(self)

    @property
    def returncode(self) -> int | None:
        """Exit code; -N after signal N; None while the command runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.join()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end and return what was printed to stdout and stderr."""
        self.wait(timeout)
        return _text(self._stdout), _text(self._stderr)


def start(arguments: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Command:
    """Start a command line that begins with the interpreter and `-m`, as a shell does."""
    interpreter, flag, *words = arguments
    assert (interpreter, flag) == (sys.executable, "-m")
    return Command(words, env=env, cwd=cwd)


def run(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 400
) -> subprocess.CompletedProcess[str]:
    """Run such a command line to its end, and return its exit code and what it printed."""
    command = start(arguments, env=env, cwd=cwd)
    try:
        stdout, stderr = command.communicate(timeout)
    finally:
        command.kill()
    return subprocess.CompletedProcess(command.args, command.returncode or 0, stdout, stderr)


def kill_what_is_left() -> None:
    """Kill the commands that have not ended. Python would wait for them when it ends."""
    for command in [one for one in _started if one.poll() is None]:
        command.kill()


@contextlib.contextmanager
def running(arguments: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that ends with the block: a test that fails would else wait for it as `subprocess.Popen` does.

    Args:
        arguments: any program and its arguments.
        options: those of `subprocess.Popen`.
    """
    with subprocess.Popen(arguments, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class _Stream:
    """An open file that is handed to another process."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (multiprocessing.reduction.DupFd(self._file.fileno()),)


def _received(handle: Any) -> int:
    descriptor: int = handle.detach()
    return descriptor


def _run_module(words: list[str], environment: dict[str, str], cwd: str, stdout: Any, stderr: Any) -> None:
    """Become the command: in the forked process."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[0:0] = [cwd]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = list(words)
    sys.modules.pop(words[0], None)  # runpy warns about a module that is preloaded
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _close(*files: IO[bytes]) -> None:
    for file in files:
        file.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8")
