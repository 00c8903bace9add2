import threading
import time

import numpy as np
import pytest

from renalnet.data.batches.decoded_cases import DecodedCase, DecodedCases
from renalnet.data.store.class_locations import ClassLocations
from renalnet.errors import StoreError


class Counted:
    """Makes patients whose only voxel is their number, and remembers who was asked for, in order."""

    def __init__(
        self,
        *,
        broken: frozenset[int] = frozenset(),
        unforeseen: frozenset[int] = frozenset(),
        gate: threading.Event | None = None,
    ) -> None:
        self.asked: list[int] = []
        self.broken, self.unforeseen, self.gate, self.is_closed = broken, unforeseen, gate, False

    def read(self, number: int) -> DecodedCase:
        self.asked.append(number)
        if self.gate:
            self.gate.wait(10)
        if number in self.unforeseen:
            raise ArithmeticError(number)
        if number in self.broken:
            raise StoreError(f"shard of {number} is damaged")
        locations = ClassLocations(np.zeros((1, 3), np.int64), np.zeros(1, np.int64), (), ())
        return DecodedCase(np.full((1, 1, 1), number, np.int16), np.zeros((1, 1, 1), np.uint8), locations)

    def close(self) -> None:
        self.is_closed = True


def patients(source: Counted, *, num_threads: int = 1, keep_all: bool = True) -> DecodedCases:
    ones = np.ones((8, 3), np.int64)
    return DecodedCases(source, ones, ones, num_threads=num_threads, keep_all=keep_all)


def settled(source: Counted, num_reads: int) -> list[int]:
    deadline = time.monotonic() + 10
    while len(source.asked) < num_reads and time.monotonic() < deadline:
        time.sleep(0.001)
    for thread in threading.enumerate():
        if thread.name == "decode":
            thread.join(10)
    return source.asked


def test_a_patient_is_decoded_once() -> None:
    source = Counted()
    ours = patients(source)
    assert [ours[3].image.item(), ours[3].image.item(), ours[1].image.item()] == [3, 3, 1]
    assert source.asked == [3, 1]


def test_the_wanted_are_decoded_ahead_in_their_order() -> None:
    source = Counted()
    ours = patients(source)
    ours.prefetch([5, 2, 5, 7])
    assert settled(source, 3) == [5, 2, 7]
    assert ours[2].image.item() == 2 and source.asked == [5, 2, 7]


def test_those_waiting_stay_ahead_of_newcomers() -> None:
    gate = threading.Event()
    source = Counted(gate=gate)
    ours = patients(source)
    ours.prefetch([0, 1, 2])
    settled_first = time.monotonic() + 10
    while not source.asked and time.monotonic() < settled_first:
        time.sleep(0.001)
    ours.prefetch([3, 2, 1])
    gate.set()
    assert settled(source, 4) == [0, 1, 2, 3]


def test_whoever_comes_while_a_patient_is_decoded_waits_for_it() -> None:
    gate = threading.Event()
    source = Counted(gate=gate)
    ours = patients(source)
    ours.prefetch([4])
    found: list[DecodedCase] = []
    threads = [threading.Thread(target=lambda: found.append(ours[4])) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert source.asked == [4] and len(found) == 3 and all(one is found[0] for one in found)


def test_the_unwanted_are_forgotten_where_not_all_are_kept() -> None:
    source = Counted()
    ours = patients(source, keep_all=False)
    ours.prefetch([0, 1])
    settled(source, 2)
    ours.prefetch([1, 2])
    settled(source, 3)
    assert set(ours._ready) == {1, 2}
    assert ours[6].image.item() == 6  # nobody announced it: decoded, and not kept
    assert set(ours._ready) == {1, 2}


def test_an_error_meets_whoever_needs_the_patient() -> None:
    source = Counted(broken=frozenset({2}))
    ours = patients(source)
    ours.prefetch([2, 3])
    assert settled(source, 2) == [2, 3]
    with pytest.raises(StoreError, match="shard of 2"):
        ours[2]
    assert ours[3].image.item() == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is not to pass unseen
def test_a_thread_that_an_unforeseen_error_ends_is_replaced() -> None:
    source = Counted(unforeseen=frozenset({2}))
    ours = patients(source)
    ours.prefetch([2])
    settled(source, 1)
    ours.prefetch([3])
    assert settled(source, 2) == [2, 3]
    with pytest.raises(ArithmeticError):
        ours[2]


def test_closing_ends_the_source_and_what_was_waiting() -> None:
    source = Counted()
    ours = patients(source)
    ours[1]
    ours.close()
    assert source.is_closed and not ours._ready
