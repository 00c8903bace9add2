"""The Ray that a command starts on this machine: who may join it, and where it keeps its files.

Ray 2.60 listens on every interface of the machine, and a process that joins it can run code on it. It reads
RAY_AUTH_MODE once, when it is imported. The package `study.execution` therefore calls `ask_for_token` before any of its
modules imports Ray.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MEMORY_LOSSES: Final = 2
"""Number of times that Ray repeats a task whose process it ended because the memory of the node ran out."""
_REPEATS: Final = "RAY_task_oom_retries"
_TOKEN: Final = secrets.token_hex(32)
_MAX_FOLDER_LENGTH: Final = 40
"""Characters of the longest folder in which Ray can make its sockets. The name of a socket has 107 bytes at most, and
Ray needs the others for the names of its session and of the socket."""


def ask_for_token() -> None:
    """Make a Ray that this process starts refuse everyone who lacks the token of this process.

    A cluster that RAY_ADDRESS names has its own token, and variables that are set stay as they are.
    """
    if "RAY_ADDRESS" in os.environ:
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)


def bound_memory_losses() -> None:
    """Make Ray give up a task for which the memory of a node does not suffice.

    By default, Ray 2.60 repeats it for ever: `max_retries` of a task does not count these losses.
    """
    # The process that submits tasks counts. It reads this variable when it connects.
    os.environ.setdefault(_REPEATS, str(MEMORY_LOSSES))


def num_memory_losses() -> int:
    """Return how often Ray repeats such a task here: `MEMORY_LOSSES`, unless Ray's own variable says otherwise."""
    return int(os.environ.get(_REPEATS, MEMORY_LOSSES))


def offered_gpus() -> int | None:
    """Return the number of GPUs that a Ray of this machine offers: 0 where none can be used, else None for Ray's count.

    Ray 2.60 also counts GPUs that PyTorch cannot use, such as that of an Apple M1. A study would have one slot for it,
    and would compute on a processor there.
    """
    from renalnet.runtime.device import has_gpu

    return None if has_gpu() else 0


@contextmanager
def short_folder() -> Iterator[str | None]:
    """Yield a folder for Ray's files that is removed at the end; None where Ray's own choice is short enough.

    Batch systems give jobs long temporary folders.
    """
    if len(tempfile.gettempdir()) <= _MAX_FOLDER_LENGTH:
        yield None
        return
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
