"""The processes of one node. Shell scripts replace `ray start` and fail as it does."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cluster.node
from cluster.node import MAX_STARTS, NodeSize, RayNode

Start = Callable[[str], RayNode]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that starts a node. Its `ray start` is a shell script, which counts its starts."""

    def make(script: str) -> RayNode:
        program = tmp_path / "ray"
        program.write_text(f"#!/bin/sh\necho start >> {tmp_path / 'count'}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(cluster.node, "ray_program", lambda: str(program))
        return RayNode(tmp_path / "node", "127.0.0.2", NodeSize(), [], os.environ)

    return make


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_that_started_too_slowly_is_started_again_a_few_times(start: Start, tmp_path: Path) -> None:
    node = start("echo The current node timed out during startup.; exit 1")
    for _ in range(MAX_STARTS - 1):
        wait_for(lambda: not node.runs)
        assert node.start_again()
    wait_for(lambda: not node.runs)
    assert not node.start_again()
    assert len((tmp_path / "count").read_text().splitlines()) == MAX_STARTS


def test_a_node_that_failed_for_another_reason_is_not_started_again(start: Start) -> None:
    node = start("echo Unknown option; exit 2")
    wait_for(lambda: not node.runs)
    assert not node.start_again() and node.output == "Unknown option\n"


def test_a_running_node_is_not_started_again(start: Start) -> None:
    node = start("echo timed out during startup; exec sleep 60")
    assert node.runs and not node.start_again()
    node.kill()
    assert not node.runs


def test_killing_a_node_kills_its_orphans(start: Start, tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    node = start(f"(sleep 60 & echo $! > {orphan}); exit 0")
    wait_for(lambda: not node.runs and orphan.exists() and orphan.read_text() != "")
    pid = int(orphan.read_text())
    os.kill(pid, 0)
    node.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())
