"""What the stages of the evidence took: time and peak memory, added up over all calls of the command."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from renalnet.runtime import storage
from study.bench.measuring.processes import family_mb

_LOOK_EVERY_S: Final = 2.0


class WorkLog:
    """The log of a work folder, a JSON file that each stage extends at its end."""

    def __init__(self, path: Path) -> None:
        """Read what earlier calls have logged; `path` may not exist yet."""
        self._path = path
        self._values: dict[str, Any] = {"durations_s": {}, "peak_memory_mb": 0.0}
        if path.is_file():
            self._values |= storage.read_json(path)

    @property
    def durations_s(self) -> dict[str, float]:
        """Time of each stage, over all calls."""
        return dict(self._values["durations_s"])

    @property
    def peak_memory_mb(self) -> float:
        """Largest memory of the command and all its processes together; 0 on a system that does not tell it."""
        return float(self._values["peak_memory_mb"])

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to that of the stage, and watch the memory, also when the block raises."""
        began = time.monotonic()
        ended = Event()
        watch = Thread(target=self._watch, args=(ended,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()
            durations = self.durations_s
            durations[stage] = round(durations.get(stage, 0.0) + time.monotonic() - began, 1)
            self._values["durations_s"] = durations
            storage.write_json(self._path, self._values)

    def _watch(self, ended: Event) -> None:
        while True:
            self._values["peak_memory_mb"] = round(max(self.peak_memory_mb, family_mb(os.getpid())), 1)
            if ended.wait(_LOOK_EVERY_S):
                return
