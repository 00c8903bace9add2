"""Writing to an object store: whatever interrupts it, an object is the old one or the new one."""

import signal
import threading
import time
from types import FrameType

import numpy as np
import pytest

from renalnet.runtime import storage


class SignalError(Exception):
    """Raised by the test's signal handler, as KeyboardInterrupt by Python's."""


def test_what_is_no_bytes_replaces_nothing(s3_uri: str) -> None:
    path = storage.join(s3_uri, "object")
    storage.write_bytes(path, b"good")
    with pytest.raises(TypeError):
        storage.write_bytes(path, "text")  # type: ignore[arg-type]
    assert storage.read_bytes(path) == b"good"


def test_a_signal_at_any_time_leaves_a_whole_object(s3_uri: str) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise SignalError

    path = storage.join(s3_uri, "object")
    contents = [letter * 300_000 for letter in (b"a", b"b")]
    storage.write_bytes(path, contents[0])
    started = time.monotonic()
    storage.write_bytes(path, contents[0])
    duration_s = time.monotonic() - started
    generator = np.random.default_rng(0)
    num_returned = 0
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident or 0
    try:
        for number in range(40):
            after_s = generator.uniform(0, 1.2 * duration_s)
            timer = threading.Timer(after_s, signal.pthread_kill, (main, signal.SIGUSR1))
            with pytest.raises(SignalError):
                timer.start()
                storage.write_bytes(path, contents[number % 2])
                num_returned += 1
                time.sleep(60)
            assert storage.read_bytes(path) in contents
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert num_returned < 40, "no signal came while an object was written"
