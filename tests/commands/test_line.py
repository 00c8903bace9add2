"""What all command lines share, in this process."""

import numpy as np
import pytest
import torch
import typer

from renalnet.commands.line import run


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
