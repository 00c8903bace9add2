"""What the node offers to the processes on it."""

import ctypes
import os
from pathlib import Path
from typing import Final

_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """Memory of the node, or what its container may use where that is less."""
    node = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (path.read_text(encoding="ascii").strip() for path in _CGROUP_LIMITS if path.exists())
    return min([node, *(int(limit) for limit in limits if limit.isdigit())])


def release_memory() -> None:
    """Give memory that was freed back to the system; the C library would keep it, in every process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only
    if trim is not None:
        trim(0)
