"""TensorBoard's event files of a run, where tensorboardX is installed."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from renalnet.runtime.log import get_logger
from renalnet.train.epochs import EpochRecord

FOLDER: Final = "tensorboard"
_CURVES: Final = ("loss", "dice_kidney", "dice_tumor", "objective", "learning_rate", "voxels_per_s", "data_wait_share")
_log = get_logger(__name__)


class Board:
    """The curves of a run, a point an epoch."""

    def __init__(self, folder: Path, records: Iterable[EpochRecord]) -> None:
        """Write those of the records anew, so that no epoch is there twice, however often a run was resumed."""
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.tfevents.*"):
            old.unlink()
        self._writer = EventsWriter(str(folder / "events"))
        for record in records:
            self.add(record)

    def add(self, record: EpochRecord) -> None:
        """Append an epoch and see it to the disk; one that failed has no point."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if not record.failure:
            values = [Summary.Value(tag=name, simple_value=getattr(record, name)) for name in _CURVES]
            event = Event(wall_time=time.time(), step=record.epoch, summary=Summary(value=values))
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Give up the file."""
        self._writer.close()


@contextmanager
def open_board(folder: str, records: Iterable[EpochRecord]) -> Iterator[Callable[[EpochRecord], None]]:
    """Adds epochs to the board in a run's folder; does nothing, and says why, where there can be none."""
    reason = _hindrance(folder)
    if reason:
        _log.info("no TensorBoard files: %s", reason)
        yield lambda _: None
        return
    board = Board(Path(folder) / FOLDER, records)
    try:
        yield board.add
    finally:
        board.close()


def _hindrance(folder: str) -> str:
    if "://" in folder:
        return f"{folder} is not a local folder"
    if find_spec("tensorboardX") is None:
        return "tensorboardX is not installed (pip install 'renalnet[study]')"
    return ""
