"""Control groups as the kernel shows them (man 7 cgroups), below a folder of the test's own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from renalnet.runtime.machine import memory_bytes

MB = 2**20
NONE_V1 = "9223372036854771712"
"""What version 1 shows where there is no limit."""


def written(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """The process's groups, and the limits by their files below /sys/fs/cgroup."""
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
            id="the least of several",
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
def test_the_least_limit_around_the_process_counts(
    groups: str, limits: dict[str, str], expected_mb: int, tmp_path: Path
) -> None:
    assert memory_bytes(written(tmp_path, groups, limits)) == expected_mb * MB


def test_without_a_limit_it_is_the_nodes_memory(tmp_path: Path) -> None:
    node = memory_bytes(tmp_path)  # no control groups at all
    assert node > 256 * MB
    unlimited = {"memory.max": "max", "memory/memory.limit_in_bytes": NONE_V1}
    assert memory_bytes(written(tmp_path, "4:memory:/\n0::/", unlimited)) == node


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
    """Pages that a process of its own meets anew in one step of four tensors, in five more, and in the last five."""
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_kept_memory_is_not_asked_for_again() -> None:
    """Of five steps each meets its pages anew where memory is given back; where it is kept, not one step's worth."""
    first, _, last = faults("given back")
    assert last > 4 * first
    first, _, last = faults("kept")
    assert first > 50 and last < first
