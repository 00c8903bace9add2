"""How a trial ended, by what it has on disk."""

from collections.abc import Sequence

from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord
from study.records.trials import State, TrialRecord

_log = get_logger(__name__)


class SecondStarts:
    """Which lost trials are handed out once more.

    Ray Tune starts a trial that it loses again, as often as it is told, but for one whose process dies in the moment in
    which it takes it over from another trial: that one it gives up at once.
    """

    def __init__(self) -> None:
        self._given: set[str] = set()

    def allows(self, name: str) -> bool:
        """Whether a trial that Tune has given up is handed out again: the first time that this is asked, and said."""
        if name in self._given:
            return False
        self._given.add(name)
        _log.warning("%s was given up by Ray Tune; it is started once more, from its last checkpoint", name)
        return True


def outcome(
    results: str, record: TrialRecord, epochs: Sequence[EpochRecord], *, was_lost: bool, short: tuple[State, str]
) -> tuple[State, str]:
    """State and reason of a trial that runs no more.

    Args:
        results: the results folder.
        record: the trial's.
        epochs: that it has finished.
        was_lost: Ray says that it raised an error or was lost too often.
        short: what it is if it has not trained all of its epochs.
    """
    if was_lost:
        return "failed", f"it raised an error or its process was lost; see tune/{record.name}/error.txt"
    if not epochs:
        return "failed", f"its epochs are not seen here: {results} must be a folder that all nodes share"
    if epochs[-1].failure:
        return "failed", epochs[-1].failure
    if len(epochs) < record.train["epochs"]:
        return short
    return "complete", "all epochs trained"
