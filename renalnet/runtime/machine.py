"""Memory, processor cores and threads of this process."""

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FAKE_GPU: Final = "fake_gpu"
"""Resource of Ray by which a node of `cluster.local` says that its GPUs are only numbers."""
_OWN_GROUPS: Final = "proc/self/cgroup"
"""File that names the control groups of this process, below the root."""
_GROUPS: Final = "sys/fs/cgroup"
"""Folder in which the kernel shows the limits of all control groups, below the root."""
_QUOTA_V1: Final = "cpu.cfs_quota_us"
_WAITING: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads wait, of OpenMP, of GNU's and of Intel's library."""
# M_MMAP_MAX must be 0, because tensors above 32 MB are mapped whatever the threshold for mapped blocks is
# (results/LOG.md). 2**31 - 1 is the largest C int, the type that mallopt takes.
_KEEP: Final = {-1: 2**31 - 1, -2: 2**26, -4: 0}
"""M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX of malloc.h: the heap never shrinks, grows by 64 MiB, and holds all
blocks, also large ones, which would otherwise be mapped one by one."""


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use.

    That is the memory of the node, or the lowest limit of the control groups of this process if it is smaller. A
    container, a batch job (Slurm) and a service or user (systemd) have such groups, which may be nested. A limit of the
    address space (`ulimit -v`) counts, too.
    """
    node = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Version 1 of control groups expresses no limit by a number that is larger than any memory.
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    own = [address_space] if address_space != resource.RLIM_INFINITY else []
    return min([node, *own, *_group_limits(root)])


def release_memory() -> None:
    """Return freed memory to the system. Otherwise the C library keeps it for this process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits of memory of this process's control groups, in bytes."""
    for file in _group_files(root, "memory", "memory.max", "memory.limit_in_bytes"):
        limit = file.read_text(encoding="ascii").strip()
        if limit.isdigit():  # "max" means no limit
            yield int(limit)


def _group_quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups, in processors."""
    for file in _group_files(root, "cpu", "cpu.max", _QUOTA_V1):
        words = file.read_text(encoding="ascii").split()
        if file.name == _QUOTA_V1:
            words += file.with_name("cpu.cfs_period_us").read_text(encoding="ascii").split()
        quota, period = words
        if quota.isdigit():  # "max" and, in version 1, -1 mean no limit
            yield int(quota) / int(period)


def _group_files(root: Path, controller: str, name: str, name_v1: str) -> Iterator[Path]:
    """Yield the files of a limit in this process's control groups, of version 2 and version 1 (man 7 cgroups)."""
    own = root / _OWN_GROUPS
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)  # the path of a group may hold colons
        if not controllers:  # a line of version 2 names no controllers
            yield from _files_around(root / _GROUPS, group, name)
        elif controller in controllers.split(","):
            yield from _files_around(root / _GROUPS / controller, group, name_v1)


def _files_around(top: Path, group: str, name: str) -> Iterator[Path]:
    """Yield the files `name` of a group and of the groups around it."""
    # A container may not see its own group below `top`, only the groups around it. Missing folders are skipped.
    own = top / group.lstrip("/")
    for folder in (own, *own.parents):
        if folder.is_relative_to(top) and (folder / name).is_file():
            yield folder / name


def keep_memory() -> None:
    """Keep freed memory in this process for the next tensors, instead of returning it to the system at every step.

    Training and inference on a processor take a third less time, because the system clears each new page on its first
    use. `release_memory` still returns the memory.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if tune is not None:
        for parameter, value in _KEEP.items():
            tune(parameter, value)


def num_cores(root: Path = Path("/")) -> int:
    """Return the number of processor cores that this process may use. On a shared node, the machine has more.

    That is the number of cores in its affinity, or the lowest quota of its control groups if that is lower, as in a
    container. A fraction of a core is left out, but the number is at least 1.
    """
    # More threads than a quota use it up before the end of its period, and then all of them stand still.
    return max(1, int(min([len(os.sched_getaffinity(0)), *_group_quotas(root)])))


def num_threads(root: Path = Path("/")) -> int:
    """Return the number of threads to compute with: OMP_NUM_THREADS if it is set, else `num_cores`.

    Of a list, which is for nested threads, the first number counts. What is no number is ignored, as by OpenMP.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(stated) if stated.isdigit() and int(stated) > 0 else num_cores(root)


def sleep_while_waiting() -> None:
    """Let the threads of OpenMP sleep while they wait for each other, unless a variable says how they wait.

    By default they spin, which takes the cores from threads that have work: beside other programs, a training step
    takes four times as long or more (results/LOG.md). This has an effect before PyTorch is imported, and on child
    processes.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
