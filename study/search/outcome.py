"""How a trial ended, as its files show, and what ends all trials."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from renalnet.errors import DiskError
from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord
from study.records.results import Results
from study.records.trials import State, TrialRecord
from study.search.pruner import FAULT

Given = ParamSpec("Given")
Result = TypeVar("Result")
_log = get_logger(__name__)


class LeaveTune(BaseException):
    """Ends a run of Ray Tune with an error. It is no Exception, because Tune takes those for failures of a trial."""

    def __init__(self, error: Exception) -> None:
        """Carry the error that the caller of Tune raises."""
        super().__init__(str(error))
        self.error = error


def leaves_tune(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """Make a method that Ray Tune calls end the run where a file cannot be written."""

    @wraps(method)
    def call(*arguments: Given.args, **keywords: Given.kwargs) -> Result:
        try:
            return method(*arguments, **keywords)
        except OSError as error:
            raise LeaveTune(error) from error

    return call


def refuse_fault(result: Mapping[str, Any]) -> None:
    """End the run of Ray Tune if a trial reports that it cannot write: the trial goes on when the command is repeated.

    Raises:
        LeaveTune: with a DiskError.
    """
    if fault := result.get(FAULT):
        raise LeaveTune(DiskError(fault))


class SecondStarts:
    """The lost trials that are started a second time.

    Ray Tune restarts a lost trial up to `max_failures` times. There is one exception in Ray 2.60: a trial whose process
    dies while it takes the process over from another trial is given up at once.
    """

    def __init__(self) -> None:
        """Start with no lost trial."""
        self._given: set[str] = set()

    def allows(self, name: str) -> bool:
        """Whether a trial that Tune has given up is started again: True the first time, which is logged."""
        if name in self._given:
            return False
        self._given.add(name)
        _log.warning("%s was given up by Ray Tune; it is started once more, from its last checkpoint", name)
        return True


def outcome(
    results: Results, record: TrialRecord, epochs: Sequence[EpochRecord], *, was_lost: bool, short: tuple[State, str]
) -> tuple[State, str]:
    """Return the state and the reason of a trial that has ended.

    Args:
        results: the results folder.
        record: record of the trial.
        epochs: epochs that the trial has finished.
        was_lost: whether Ray reports that the trial raised an error or was lost too often.
        short: state and reason of a trial that has trained some of its epochs.
    """
    if was_lost:
        return "failed", f"it raised an error or its process was lost; see tune/{record.name}/error.txt"
    # Without a loss, Ray has received an epoch. If there is none here, the node wrote it to another disk.
    if not epochs:
        return "failed", f"its epochs are not seen here: {results} must be a folder that all nodes share"
    if epochs[-1].failure:
        return "failed", epochs[-1].failure
    if len(epochs) < record.train["epochs"]:
        return short
    return "complete", "all epochs trained"
