"""Silence for C and C++ libraries that write to the process's stderr whatever they are told."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ONE_AT_A_TIME: Final = threading.Lock()
"""Two that overlap would restore each other's silence."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2.

    This holds for the whole process, its other threads included, and one thread at a time: keep only the library's
    call inside.
    """
    with _ONE_AT_A_TIME:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
