"""Suppression of the messages that C and C++ libraries write to the process's stderr."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SUPPRESSION: Final = threading.Lock()
"""Two overlapping calls would each save the other's redirected stderr and restore it at the end."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2.

    The redirection affects all threads of the process, and only one thread can hold it at a time. Put only the call
    of the library inside the block.
    """
    with _SUPPRESSION:
        # The libraries write to the descriptor itself, so replacing `sys.stderr` would not silence them.
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
