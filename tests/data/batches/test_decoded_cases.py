"""Tests of cases that background threads decode ahead."""

import threading
import time

import numpy as np
import pytest

from renalnet.data.batches.decoded_cases import DecodedCase, DecodedCases
from renalnet.data.store.class_locations import ClassLocations
from renalnet.errors import StoreError


class Counted:
    """Source of cases whose only voxel is their number; it records the numbers of the reads."""

    def __init__(
        self,
        *,
        broken: frozenset[int] = frozenset(),
        unexpected: frozenset[int] = frozenset(),
        gate: threading.Event | None = None,
    ) -> None:
        self.reads: list[int] = []
        self.broken = broken
        self.unexpected = unexpected
        self.gate = gate
        self.is_closed = False

    def read(self, number: int) -> DecodedCase:
        self.reads.append(number)
        if self.gate:
            self.gate.wait(10)
        if number in self.unexpected:
            raise ArithmeticError(number)
        if number in self.broken:
            raise StoreError(f"shard of {number} is damaged")
        locations = ClassLocations(np.zeros((1, 3), np.int64), np.zeros(1, np.int64), ())
        return DecodedCase(np.full((1, 1, 1), number, np.int16), np.zeros((1, 1, 1), np.uint8), locations)

    def close(self) -> None:
        self.is_closed = True


def decoded(source: Counted, *, num_threads: int = 1, keep_all: bool = True) -> DecodedCases:
    ones = np.ones((8, 3), np.int64)
    return DecodedCases(source, ones, ones, num_threads=num_threads, keep_all=keep_all)


def reads_of(source: Counted, num_reads: int) -> list[int]:
    deadline = time.monotonic() + 10
    while len(source.reads) < num_reads and time.monotonic() < deadline:
        time.sleep(0.001)
    for thread in threading.enumerate():
        if thread.name == "decode":
            thread.join(10)
    return source.reads


def test_a_case_is_decoded_once() -> None:
    source = Counted()
    ours = decoded(source)
    assert [ours[3].image.item(), ours[3].image.item(), ours[1].image.item()] == [3, 3, 1]
    assert source.reads == [3, 1]


def test_prefetched_cases_are_decoded_in_their_order() -> None:
    source = Counted()
    ours = decoded(source)
    ours.prefetch([5, 2, 5, 7])
    assert reads_of(source, 3) == [5, 2, 7]
    assert ours[2].image.item() == 2 and source.reads == [5, 2, 7]


def test_waiting_cases_come_before_new_ones() -> None:
    gate = threading.Event()
    source = Counted(gate=gate)
    ours = decoded(source)
    ours.prefetch([0, 1, 2])
    deadline = time.monotonic() + 10
    while not source.reads and time.monotonic() < deadline:
        time.sleep(0.001)
    ours.prefetch([3, 2, 1])
    gate.set()
    assert reads_of(source, 4) == [0, 1, 2, 3]


def test_threads_wait_for_a_case_that_is_being_decoded() -> None:
    gate = threading.Event()
    source = Counted(gate=gate)
    ours = decoded(source)
    ours.prefetch([4])
    found: list[DecodedCase] = []
    threads = [threading.Thread(target=lambda: found.append(ours[4])) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert source.reads == [4] and len(found) == 3 and all(one is found[0] for one in found)


def test_unwanted_cases_are_dropped_where_not_all_are_kept() -> None:
    source = Counted()
    ours = decoded(source, keep_all=False)
    ours.prefetch([0, 1])
    reads_of(source, 2)
    ours.prefetch([1, 2])
    reads_of(source, 3)
    assert set(ours._ready) == {1, 2}
    assert ours[6].image.item() == 6  # not prefetched: decoded, and not kept
    assert set(ours._ready) == {1, 2}


def test_an_error_is_raised_where_the_case_is_needed() -> None:
    source = Counted(broken=frozenset({2}))
    ours = decoded(source)
    ours.prefetch([2, 3])
    assert reads_of(source, 2) == [2, 3]
    with pytest.raises(StoreError, match="shard of 2"):
        ours[2]
    assert ours[3].image.item() == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the error must not be swallowed
def test_a_thread_that_an_unexpected_error_ended_is_replaced() -> None:
    source = Counted(unexpected=frozenset({2}))
    ours = decoded(source)
    ours.prefetch([2])
    reads_of(source, 1)
    ours.prefetch([3])
    assert reads_of(source, 2) == [2, 3]
    with pytest.raises(ArithmeticError):
        ours[2]


def test_closing_closes_the_source_and_drops_the_cases() -> None:
    source = Counted()
    ours = decoded(source)
    ours[1]
    ours.close()
    assert source.is_closed and not ours._ready
