"""Which process an id stands for: ids are given again, also after a restart of a machine or container."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_ENDED: Final = ("Z", "X", "x")
"""States of a process that has ended, whether or not its parent has asked for its exit code (proc(5))."""
_STATE: Final = 0
_PARENT: Final = 1
_START: Final = 19
"""Places in `/proc/PID/stat`, counted from the state, which follows the name in parentheses (proc(5))."""


def namespace() -> str:
    """Return the namespace of process ids, empty if unknown. Each container of a host has its own."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def start_of(pid: int) -> str:
    """Return when a process of this namespace has started; empty if it has ended or the system does not tell.

    The text has the boot of the machine and the time since then, so no other process of the same id has the same one.
    """
    with suppress(OSError, IndexError):
        fields = _fields(pid)
        if fields[_STATE] not in _ENDED:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return f"{boot}/{fields[_START]}"
    return ""


def is_alive(pid: int, started: str | None) -> bool:
    """Return whether a process of this namespace still runs.

    Args:
        pid: its id; a number below 1 stands for no process.
        started: what `start_of` returned for it; empty where the system does not tell, None if nobody has asked.
    """
    if pid < 1 or (started is None and pid == os.getpid()):
        return False  # this process knows when it has started, so it is a later one of the same id
    if started:
        return start_of(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's process
        return True
    return not Path("/proc/self/stat").exists() or start_of(pid) != ""


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, directly or not; empty where the system does not tell."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it has ended meanwhile
            parents[int(path.name)] = int(_fields(int(path.name))[_PARENT])
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= new
    return found


def _fields(pid: int) -> list[str]:
    """Return what `/proc/PID/stat` says after the name, which may hold spaces and parentheses itself."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
