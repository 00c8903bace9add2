"""A study submitted to a running Ray head, with token authentication, as `cluster/README.md` says."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.documents import shell_lines

from cluster.local import LocalCluster
from cluster.node import ray_program
from renalnet.data.store.reader import Store

ROOT = Path(__file__).parents[3]


def submit(cluster: LocalCluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Submit a job by Ray's own command. Repeat while the head, which has just started, has no agent to run it."""
    command = [ray_program(), "job", "submit", "--working-dir", str(ROOT), "--", *words]
    for _ in range(30):
        done = subprocess.run(
            command, env=cluster.environment, capture_output=True, text=True, timeout=300, check=False
        )
        if "No available agent" not in done.stderr:
            return done
        time.sleep(1)
    raise AssertionError(done.stderr)


@pytest.mark.slow
def test_submitted_study_succeeds(ray_head: LocalCluster, ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    options = ["--config", str(tiny_file), "--data", ball_store.path, "--results", str(tmp_path / "results")]
    options += ["--set", "search.num_trials=1", "--set", "search.baselines=[]", "--set", "train.epochs=3"]
    _, line = shell_lines("README.md", "Run on a cluster")
    _, *words = shlex.split(line)
    done = subprocess.run(
        [sys.executable, *words, *options],
        cwd=ROOT,
        env=ray_head.environment,  # a process of its own, because Ray reads the token when it is imported
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Table I" in done.stdout and "succeeded" in done.stderr
    assert (tmp_path / "results" / "report.html").exists()


@pytest.mark.slow
def test_relative_results_are_refused_inside_a_job(ray_head: LocalCluster, ball_store: Store) -> None:
    done = submit(ray_head, "python", "-m", "study.run", "--data", ball_store.path, "--results", "results/lost")
    assert done.returncode != 0
    assert "inside a submitted job this must be an absolute path" in done.stdout
