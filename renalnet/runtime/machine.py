"""What the node offers to the processes on it."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OWN_GROUPS: Final = "proc/self/cgroup"
_GROUPS: Final = "sys/fs/cgroup"
_KEEP: Final = {-1: 2**31 - 1, -2: 2**26, -4: 0}
"""M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX of malloc.h: never shrink, grow by 64 MiB, map nothing on its own."""


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory of the node, or the least that a control group around this process allows where that is less.

    Such groups are those of a container, of a batch job (Slurm), of a service or user (systemd), one inside another.
    """
    node = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([node, *_group_limits(root)])


def release_memory() -> None:
    """Give memory that was freed back to the system; the C library would keep it, in every process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only
    if trim is not None:
        trim(0)


def _group_limits(root: Path) -> Iterator[int]:
    """Bytes that this process's control groups allow, those of version 2 and of version 1 (man 7 cgroups)."""
    own = root / _OWN_GROUPS
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _limits_around(root / _GROUPS, group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_around(root / _GROUPS / "memory", group, "memory.limit_in_bytes")


def _limits_around(top: Path, group: str, name: str) -> Iterator[int]:
    """Limits of a group and of all around it; a container may see the outer ones only, as if they were the top."""
    own = top / group.lstrip("/")
    for folder in (own, *own.parents):
        if folder.is_relative_to(top) and (folder / name).is_file():
            limit = (folder / name).read_text(encoding="ascii").strip()
            if limit.isdigit():  # "max" where there is none
                yield int(limit)


def keep_memory() -> None:
    """Keep freed memory for the next tensors instead of giving it back and asking anew at every step.

    For processes that train or infer on a processor: a third less time, since a fresh page is cleared when it is first
    touched. `release_memory` still gives it back.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc only
    if tune is not None:
        for parameter, value in _KEEP.items():
            tune(parameter, value)


def num_cores() -> int:
    """Processor cores that this process may use; fewer than the machine's on a shared node."""
    return len(os.sched_getaffinity(0))
