"""Decoded cases of a split, by number; background threads decode the cases that are needed next."""

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from renalnet.data.store.class_locations import ClassLocations
from renalnet.data.store.reader import Store
from renalnet.errors import RenalnetError
from renalnet.runtime.machine import release_memory
from renalnet.types import HuArray, LabelArray


@dataclass(frozen=True)
class DecodedCase:
    """A case as training and validation use it. Other processes may share its arrays, which must not be written."""

    image: HuArray
    """CT numbers (z, y, x), clipped to the range of the normalisation once, so that no batch has to."""
    label: LabelArray
    """Labels (z, y, x)."""
    locations: ClassLocations
    """Locations of its classes."""


class CaseSource(Protocol):
    """A source of cases by number."""

    def read(self, number: int) -> DecodedCase:
        """Return a case; called by several threads at once. Raises StoreError where its shard is damaged."""
        ...

    def close(self) -> None:
        """Release the source; cases that were read stay valid."""
        ...


@dataclass(frozen=True)
class StoreSource:
    """Source that decodes cases from a store into the memory of this process."""

    store: Store
    cases: tuple[str, ...]

    def read(self, number: int) -> DecodedCase:
        """See `CaseSource`."""
        roi, locations = self.store.read_with_class_locations(self.cases[number])
        bounds = self.store.normalisation.hu_min, self.store.normalisation.hu_max
        # In place, because nobody else has these arrays yet.
        return DecodedCase(np.clip(roi.image, *bounds, out=roi.image), roi.label, locations)

    def close(self) -> None:
        """Do nothing, because the store has no open file."""


@dataclass(frozen=True)
class RenumberedSource:
    """Source of the cases of other sources under new numbers, for instance of a node's copies of both splits."""

    places: tuple[tuple[CaseSource, int], ...]
    """Source of each case, and its number there."""

    def read(self, number: int) -> DecodedCase:
        """See `CaseSource`."""
        source, there = self.places[number]
        return source.read(there)

    def close(self) -> None:
        """Close every source once; another object may have closed it already."""
        # By identity, because a source need not be hashable.
        for source in {id(source): source for source, _ in self.places}.values():
            source.close()


class DecodedCases:
    """The cases of a split, in the order of their names.

    `cases[number]` decodes a case, or waits for the thread that already decodes it.
    """

    def __init__(
        self,
        source: CaseSource,
        shapes: NDArray[np.int64],
        counts: NDArray[np.int64],
        *,
        num_threads: int = 1,
        keep_all: bool = True,
    ) -> None:
        """Begin without a decoded case.

        Args:
            source: source of the cases.
            shapes: voxels (z, y, x) of each ROI, shape (N, 3).
            counts: voxels of each class of each case, shape (N, classes).
            num_threads: number of threads that decode ahead.
            keep_all: whether decoded cases stay in memory; else only those of the last `prefetch` do.
        """
        self.shapes = shapes
        self.counts = counts
        self._source = source
        self._num_threads = num_threads
        self._keep_all = keep_all
        self._changed = threading.Condition()
        self._ready: dict[int, DecodedCase] = {}
        self._under_way: set[int] = set()
        self._queue: deque[int] = deque()
        self._wanted: frozenset[int] = frozenset()
        self._num_running = 0

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int) -> DecodedCase:
        with self._changed:
            self._changed.wait_for(lambda: number not in self._under_way)
            if number in self._ready:
                return self._ready[number]
            # Neither ready nor under way: nobody has begun, or another thread failed and this one gets its own error.
            self._under_way.add(number)
        return self._make(number)

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Decode these cases ahead, in this order; without `keep_all`, drop all others.

        Cases of an earlier call that are still wanted come first.
        """
        order = list(dict.fromkeys(numbers))
        with self._changed:
            self._wanted = frozenset(order)
            if not self._keep_all:
                self._ready = {n: kept for n, kept in self._ready.items() if n in self._wanted}
            waiting = [number for number in self._queue if number in self._wanted]
            self._queue = deque(n for n in dict.fromkeys([*waiting, *order]) if n not in self._ready)
            num_new = min(self._num_threads, len(self._queue)) - self._num_running
            # Counted before the threads start, so that a call meanwhile does not start as many again.
            self._num_running += max(num_new, 0)
        for _ in range(num_new):
            # Not a daemon thread, which the end of the interpreter would cut off inside arrow. `_next` ends it instead.
            threading.Thread(target=self._work, name="decode").start()

    def close(self) -> None:
        """Stop decoding ahead, drop the decoded cases, and close the source."""
        self.prefetch(())
        with self._changed:
            self._ready.clear()
        self._source.close()

    def _work(self) -> None:
        try:
            while (number := self._next()) is not None:
                # The error is raised again where the case is needed, which is where it can be handled.
                with suppress(RenalnetError, OSError):
                    self._make(number)
        except BaseException:
            with self._changed:
                # `_next` lowers the count itself under the lock when it finds no more work, but not on this path.
                self._num_running -= 1
            raise
        if self._keep_all:
            # What decompression has used is not needed again; in a window decoding never ends.
            release_memory()

    def _next(self) -> int | None:
        with self._changed:
            while self._queue and threading.main_thread().is_alive():
                number = self._queue.popleft()
                if number not in self._ready and number not in self._under_way:
                    self._under_way.add(number)
                    return number
            self._num_running -= 1
            return None

    def _make(self, number: int) -> DecodedCase:
        case = None
        try:
            case = self._source.read(number)
            return case
        finally:
            with self._changed:
                # Also after an error, so that nobody waits for this case forever.
                self._under_way.discard(number)
                if case is not None and (self._keep_all or number in self._wanted):
                    self._ready[number] = case
                self._changed.notify_all()
