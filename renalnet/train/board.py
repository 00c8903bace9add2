"""TensorBoard event files of a run. They need tensorboardX, which is optional."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from renalnet.runtime.log import get_logger
from renalnet.train.epochs import DICE, EpochRecord

FOLDER: Final = "tensorboard"
_CURVES: Final = ("loss", "objective", "learning_rate", "voxels_per_s", "data_wait_share")
"""Curves beside those of the Dice of each label."""
_log = get_logger(__name__)


class Board:
    """The curves of a run, one point per epoch."""

    def __init__(self, folder: Path, records: Iterable[EpochRecord]) -> None:
        """Replace the event files in `folder` by one with the points of `records`.

        A resumed run passes its earlier epochs, so that no epoch has two points.
        """
        # Imported here, so that this module can be imported without the optional package.
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.tfevents.*"):
            old.unlink()
        self._writer = EventsWriter(str(folder / "events"))
        for record in records:
            self.add(record)

    def add(self, record: EpochRecord) -> None:
        """Add the points of an epoch and flush the file. A failed epoch has no points."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if not record.failure:
            curves = {
                name: value for name, value in record.to_json().items() if name in _CURVES or name.startswith(DICE)
            }
            values = [Summary.Value(tag=name, simple_value=value) for name, value in curves.items()]
            event = Event(wall_time=time.time(), step=record.epoch, summary=Summary(value=values))
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@contextmanager
def open_board(folder: str, records: Iterable[EpochRecord]) -> Iterator[Callable[[EpochRecord], None]]:
    """Yield a function that adds an epoch to the event files in a run's folder.

    If event files cannot be written, the reason is logged and the function does nothing.
    """
    reason = _obstacle(folder)
    if reason:
        _log.info("no TensorBoard files: %s", reason)
        yield lambda _: None
        return
    board = Board(Path(folder) / FOLDER, records)
    try:
        yield board.add
    finally:
        board.close()


def _obstacle(folder: str) -> str:
    if "://" in folder:
        return f"{folder} is not a local folder"
    if find_spec("tensorboardX") is None:
        return 'tensorboardX is not installed (pip install ".[study]" in the clone)'
    return ""
