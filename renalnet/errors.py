"""The exceptions of the project. A message says what is wrong, the value, the rule, and what to do, in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class RenalnetError(Exception):
    """Anything a person can mend; command lines print it as one line and exit 2."""


class ConfigError(RenalnetError, ValueError):
    """A configuration key or value that breaks a rule."""


class InputError(RenalnetError, ValueError):
    """A scan, label, folder or case that cannot be used."""


class StoreError(RenalnetError, ValueError):
    """A store of patches that is missing, damaged or does not match its manifest."""


class CheckpointError(RenalnetError, ValueError):
    """A checkpoint that is missing, damaged or belongs to another run."""


class ResultsError(RenalnetError, ValueError):
    """A results folder that is missing, incomplete or belongs to another study."""


class ClusterError(RenalnetError, RuntimeError):
    """A Ray cluster that does not start, does not answer or refuses."""


class BusyError(RenalnetError, RuntimeError):
    """A folder that another process is writing."""


class LostError(RenalnetError, RuntimeError):
    """Something that the work needs went away in its middle; the same command goes on when it is back. Exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to `name`, or listing the known ones if none is near."""
    options = sorted(known)
    close = get_close_matches(name, options, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(options)}"
