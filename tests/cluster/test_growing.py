"""A cluster whose nodes join while a study waits for them, as with an autoscaler."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from cluster.node import NodeSize

ROOT = Path(__file__).parents[2]
JOBS = """
import os, sys
from study.config.sections import ResourceConfig
from study.execution.connection import connected
from study.execution.slots import find_slots
from study.execution.tasks import RayPool
with connected():
    slots = find_slots(ResourceConfig(scale_to=int(sys.argv[1])))
    print(slots.num_slots, slots.gpus, flush=True)
    print(sum(RayPool(slots).map(abs, [-1, -2, -3])))
"""


def start(cluster: LocalCluster, scale_to: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", JOBS, str(scale_to)],
        cwd=ROOT,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_slots_are_those_of_nodes_to_come() -> None:
    with LocalCluster(1, NodeSize(1, 1), head=NodeSize(0, 0)) as cluster:
        refused = start(cluster, scale_to=0)
        assert "name resources.scale_to where nodes start on demand" in refused.communicate(timeout=180)[1]
        waiting = start(cluster, scale_to=2)
        assert waiting.stdout is not None and waiting.stdout.readline().split() == ["2", "1.0"]
        cluster.add_node()
        assert waiting.communicate(timeout=180)[0].split() == ["6"]
        assert waiting.returncode == 0
