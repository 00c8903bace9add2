"""What all command lines share, in this process."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import typer

from renalnet.commands.line import run
from renalnet.errors import RenalnetError


def ended(error: Exception, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a command that raises an error; return its exit code."""
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as end:
        run(app)
    return end.value.code


def of_numpy() -> Exception:
    try:
        np.empty(2**60, np.uint8)
    except MemoryError as error:
        return error
    raise AssertionError("an EiB was allocated")


def of_torch() -> Exception:
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("an EiB was allocated")


@pytest.mark.parametrize("error", [of_numpy(), of_torch(), MemoryError()])
def test_memory_that_runs_out_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: memory ran out (") and "lower the sizes in the configuration" in line


def test_another_runtime_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        ended(RuntimeError("a bug"), monkeypatch)


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    """SIGTERM acts as in a new process, also where Ray has run in this one, which handles it from then on."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_sigterm_is_one_line_after_the_command_has_tidied_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except RenalnetError:  # as a command does that goes on with the next scan
            typer.echo("the error of a scan")
        finally:
            typer.echo("tidied up")

    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as end:
        run(app)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (143, "tidied up\n")
    assert said.err == "error: stopped by SIGTERM; what is finished is kept; repeat the command to go on\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
def test_sigterm_ends_a_forked_worker_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    app = typer.Typer()

    @app.command()
    def command() -> None:
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # the parent waits for it
            try:
                os.write(writer, b"x")
                signal.pause()
            finally:
                os._exit(1)  # the child must not go on with the tests
        os.read(reader, 1)
        os.kill(child, signal.SIGTERM)
        typer.echo(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["command"])
        run(app)
    said = capfd.readouterr()
    assert (end.value.code, said.out, said.err) == (0, "-15\n", "")
    os.close(reader)
    os.close(writer)
