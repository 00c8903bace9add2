"""Limits of memory and cores from control groups (man 7 cgroups), in a copy of the kernel's files in a test folder."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from renalnet.runtime.machine import memory_bytes, num_cores, num_threads, sleep_while_waiting

MB = 2**20
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
NONE_V1 = "9223372036854771712"
"""Value of version 1 for no limit."""


def write_groups(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """Write the groups of the process, and the limits by their files in /sys/fs/cgroup."""
    files = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{path}": limit for path, limit in limits.items()}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "expected_mb"),
    [
        pytest.param("0::/", {"memory.max": str(64 * MB)}, 64, id="container"),
        pytest.param(
            "0::/system.slice/slurm/job_7/step_0",
            {
                "system.slice/slurm/job_7/memory.max": str(48 * MB),
                "system.slice/slurm/job_7/step_0/memory.max": "max",
                "system.slice/slurm/job_8/memory.max": str(8 * MB),
            },
            48,
            id="batch job",
        ),
        pytest.param(
            "0::/user.slice/run.scope",
            {
                "memory.max": str(60 * MB),
                "user.slice/memory.max": str(50 * MB),
                "user.slice/run.scope/memory.max": str(55 * MB),
            },
            50,
            id="the lowest of several",
        ),
        pytest.param(
            "5:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/job/step\n0::/",
            {
                "memory/memory.limit_in_bytes": NONE_V1,
                "memory/job/memory.limit_in_bytes": str(32 * MB),
                "memory/elsewhere/memory.limit_in_bytes": str(8 * MB),
            },
            32,
            id="version 1",
        ),
        pytest.param("4:memory:/seen/outside", {"memory/memory.limit_in_bytes": str(16 * MB)}, 16, id="container, v1"),
    ],
)
def test_the_lowest_limit_around_the_process_counts(
    groups: str, limits: dict[str, str], expected_mb: int, tmp_path: Path
) -> None:
    assert memory_bytes(write_groups(tmp_path, groups, limits)) == expected_mb * MB


def test_without_a_limit_it_is_the_nodes_memory(tmp_path: Path) -> None:
    node = memory_bytes(tmp_path)  # without any control group
    assert node > 256 * MB
    unlimited = {"memory.max": "max", "memory/memory.limit_in_bytes": NONE_V1}
    assert memory_bytes(write_groups(tmp_path, "4:memory:/\n0::/", unlimited)) == node


FAULTS = """
import resource, sys
import torch
from renalnet.runtime.machine import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def step():
    features = [torch.ones(2**23 + 2**20 * number) for number in range(4)]
    return sum(feature[0].item() for feature in features)
def faults_of(num_steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(num_steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults_of(1), faults_of(5), faults_of(5))
"""


def faults(kind: str) -> list[int]:
    """Return the page faults of a new process in one step of four tensors, in five more steps, and in the last five."""
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_a_limit_of_the_address_space_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (64 * MB, 128 * MB))
    assert memory_bytes(tmp_path) == 64 * MB


@pytest.mark.slow
def test_kept_memory_is_not_asked_for_again() -> None:
    """Without `keep_memory`, each step faults on its pages again. With it, five steps fault less than the first one."""
    first, _, last = faults("given back")
    assert last > 4 * first
    first, _, last = faults("kept")
    assert first > 50 and last < first


@pytest.mark.parametrize(
    ("groups", "limits", "cores"),
    [
        pytest.param("0::/", {"cpu.max": "200000 100000"}, 2, id="container"),
        pytest.param("0::/", {"cpu.max": "350000 100000"}, 3, id="a fraction is left out"),
        pytest.param("0::/", {"cpu.max": "50000 100000"}, 1, id="half a core"),
        pytest.param("0::/", {"cpu.max": "max 100000"}, 8, id="no quota"),
        pytest.param("0::/", {"cpu.max": "1600000 100000"}, 8, id="a quota above the cores"),
        pytest.param(
            "0::/kubepods/pod1/c1",
            {"kubepods/pod1/cpu.max": "30000 10000", "kubepods/pod1/c1/cpu.max": "max 100000"},
            3,
            id="quota of a group around it",
        ),
        pytest.param(
            "4:cpuset:/\n3:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"},
            4,
            id="version 1",
        ),
        pytest.param(
            "3:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, id="no quota, v1"
        ),
        pytest.param("0::/", {}, 8, id="no file"),
    ],
)
def test_the_cores_of_a_process_are_those_of_its_quota(
    groups: str, limits: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may run on 8 cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    root = write_groups(tmp_path, groups, limits)
    assert num_cores(root) == cores
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert num_threads(root) == cores


@pytest.mark.parametrize(
    ("stated", "threads"), [("1", 1), ("12", 12), (" 3 ", 3), ("6,2", 6), ("0", 2), ("", 2), ("many", 2), ("-4", 2)]
)
def test_the_number_of_threads_is_the_users(
    stated: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also above the two cores of the quota."""
    root = write_groups(tmp_path, "0::/", {"cpu.max": "200000 100000"})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert num_threads(root) == threads


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="PyTorch computes with GNU's OpenMP on Linux only")
@pytest.mark.parametrize(("stated", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_threads_of_a_command_sleep_while_they_wait(stated: dict[str, str], policy: str) -> None:
    """OpenMP itself says how its threads wait, in a command that ends with an error after PyTorch is imported."""
    own = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-m", "renalnet", "export", "no-such-bundle"],
        capture_output=True,
        text=True,
        check=False,
        env={**own, **stated, "OMP_DISPLAY_ENV": "verbose"},
    )
    assert "error: no-such-bundle" in done.stderr
    shown = re.search(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr)
    assert shown and shown.group(1) == policy


@pytest.mark.parametrize("stated", [None, *WAITING])
def test_how_threads_wait_is_the_users_choice(stated: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.setenv(name, "")  # so that the end of the test removes what is set in between
        monkeypatch.delenv(name)
    if stated:
        monkeypatch.setenv(stated, "7")
    sleep_while_waiting()
    found = {name: os.environ[name] for name in WAITING if name in os.environ}
    assert found == ({stated: "7"} if stated else {"OMP_WAIT_POLICY": "passive"})
