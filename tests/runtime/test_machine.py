"""Memory limits from control groups (man 7 cgroups), in a copy of the kernel's files in a test folder."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from renalnet.runtime.machine import memory_bytes

MB = 2**20
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


def test_kept_memory_is_not_asked_for_again() -> None:
    """Without `keep_memory`, each step faults on its pages again. With it, five steps fault less than the first one."""
    first, _, last = faults("given back")
    assert last > 4 * first
    first, _, last = faults("kept")
    assert first > 50 and last < first
