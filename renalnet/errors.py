"""The exceptions of the project.

A message is one line that says what is wrong, the value, the rule, and the remedy.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RenalnetError(Exception):
    """An error that the user can fix. Command lines print it as one line and exit with code 2."""


class ConfigError(RenalnetError, ValueError):
    """A configuration key or value that breaks a rule."""


class InputError(RenalnetError, ValueError):
    """A scan, label map, folder or case that cannot be used."""


class StoreError(RenalnetError, ValueError):
    """A store that is missing or damaged, or that does not match its manifest."""


class CheckpointError(RenalnetError, ValueError):
    """A checkpoint that is missing or damaged, or that belongs to another run."""


class ResultsError(RenalnetError, ValueError):
    """A results folder that is missing or incomplete, or that belongs to another study."""


class ClusterError(RenalnetError, RuntimeError):
    """A Ray cluster that does not start, does not answer, or refuses a request."""


class BusyError(RenalnetError, RuntimeError):
    """A folder that another process is writing to."""


class LostError(RenalnetError, RuntimeError):
    """A resource that was lost while it was in use.

    The same command resumes once the resource is back. Command lines exit with code 1.
    """


class DiskError(RenalnetError, RuntimeError):
    """A disk that cannot be written for now: full, read-only or failing. Later, the same command goes on."""


class StoppedError(RenalnetError, RuntimeError):
    """The end of a command that a signal asked to stop. Command lines exit with 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        """State what stopped the command and what the user may do; `signal_number` is the number of the signal."""
        super().__init__(message)
        self.signal_number = signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word nearest to `name`, or lists the known words if none is similar."""
    options = sorted(known)
    close = get_close_matches(name, options, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(options)}"
