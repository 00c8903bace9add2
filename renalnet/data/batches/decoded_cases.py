"""Decoded patients of a split, by number; those that are wanted next are decoded ahead by background threads."""

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
    """What training and validation need of a patient. The arrays may be shared with other processes: do not write."""

    image: HuArray
    """HU (z, y, x), clipped to the range of the normalisation, so that a batch needs no clipping."""
    label: LabelArray
    """(z, y, x)."""
    locations: ClassLocations
    """Where its classes lie."""


class CaseSource(Protocol):
    """Where patients come from, by number."""

    def read(self, number: int) -> DecodedCase:
        """A patient; called by several threads at once. Raises StoreError."""
        ...

    def close(self) -> None:
        """Give up what it holds; patients that were read stay valid."""
        ...


@dataclass(frozen=True)
class StoreSource:
    """Cases decoded from a store into this process's own memory."""

    store: Store
    cases: tuple[str, ...]

    def read(self, number: int) -> DecodedCase:
        """See `CaseSource`."""
        roi, locations = self.store.read_with_class_locations(self.cases[number])
        bounds = self.store.normalisation.hu_min, self.store.normalisation.hu_max
        return DecodedCase(np.clip(roi.image, *bounds, out=roi.image), roi.label, locations)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class RenumberedSource:
    """Cases of other sources under new numbers: of the copies that a node has already, for instance."""

    places: tuple[tuple[CaseSource, int], ...]
    """For each patient its source, and its number there."""

    def read(self, number: int) -> DecodedCase:
        """See `CaseSource`."""
        source, there = self.places[number]
        return source.read(there)

    def close(self) -> None:
        """Close every source, which may be done twice."""
        for source in {id(source): source for source, _ in self.places}.values():
            source.close()


class DecodedCases:
    """The patients of a split, in the order of their names; `patients[number]` decodes, or waits for who decodes."""

    def __init__(
        self,
        source: CaseSource,
        shapes: NDArray[np.int64],
        counts: NDArray[np.int64],
        *,
        num_threads: int = 1,
        keep_all: bool = True,
    ) -> None:
        """Nothing is decoded yet.

        Args:
            source: what decodes them.
            shapes: voxels (z, y, x) of each ROI, (N, 3).
            counts: voxels of each label of each patient, (N, 3).
            num_threads: decode ahead.
            keep_all: whether patients stay when others are wanted; else memory holds the wanted ones only.
        """
        self.shapes, self.counts = shapes, counts
        self._source, self._num_threads, self._keep_all = source, num_threads, keep_all
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
            self._under_way.add(number)
        return self._make(number)

    def prefetch(self, numbers: Iterable[int]) -> None:
        """These are needed next; with `keep_all` off, the others are forgotten.

        They are decoded in this order, behind those that have been waiting.
        """
        order = list(dict.fromkeys(numbers))
        with self._changed:
            self._wanted = frozenset(order)
            if not self._keep_all:
                self._ready = {n: kept for n, kept in self._ready.items() if n in self._wanted}
            waiting = [number for number in self._queue if number in self._wanted]
            self._queue = deque(n for n in dict.fromkeys([*waiting, *order]) if n not in self._ready)
            num_new = min(self._num_threads, len(self._queue)) - self._num_running
            self._num_running += max(num_new, 0)
        for _ in range(num_new):
            # Not a daemon: it would be cut off inside arrow when the interpreter ends. It ends itself instead.
            threading.Thread(target=self._work, name="decode").start()

    def close(self) -> None:
        """Decode nothing more ahead, and forget what is decoded."""
        self.prefetch(())
        with self._changed:
            self._ready.clear()
        self._source.close()

    def _work(self) -> None:
        try:
            while (number := self._next()) is not None:
                with suppress(RenalnetError, OSError):  # whoever needs this patient meets the error
                    self._make(number)
        except BaseException:
            with self._changed:
                self._num_running -= 1  # `_next` lowers it in the same breath as it finds nothing more to do
            raise
        if self._keep_all:
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
        patient = None
        try:
            patient = self._source.read(number)
            return patient
        finally:
            with self._changed:
                self._under_way.discard(number)
                if patient is not None and (self._keep_all or number in self._wanted):
                    self._ready[number] = patient
                self._changed.notify_all()
