"""A study on three nodes loses a node, the process of a trial, and its driver. Its results are those of an undisturbed
study.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import commands

from cluster.local import LocalCluster
from cluster.node import NodeSize
from renalnet.data.store.reader import Store

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "search.num_trials=2",
    "search.baselines=[unet3d]",
    "search.sampler=random",
    "search.scheduler=none",
    "train.steps_per_epoch=20",
    "train.checkpoint_every_s=1",
    "resources.max_failures=8",  # on a busy machine Ray may give up nodes that are only slow
    "final.num_finalists=1",
]
"""With the baseline, 3 trials, one for each node. Points are random and no trial is pruned, so that results do not
depend on the order of events."""


def command(store: Store, config: Path, results: Path) -> list[str]:
    settings = [word for option in OPTIONS for word in ("--set", option)]
    paths = ["--config", str(config), "--data", store.path, "--results", str(results)]
    return [sys.executable, "-m", "study.run", "--preset", "quick", *paths, *settings]


def epochs(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the epochs on disk, by trial."""
    logs = results.glob("trials/*/epochs.jsonl")
    return {path.parent.name: [json.loads(line) for line in path.read_text().splitlines()] for path in logs}


def num_ended(results: Path) -> int:
    records = [json.loads(path.read_text()) for path in results.glob("trials/*/trial.json")]
    return sum(record["state"] == "complete" for record in records)


def wait_until(condition: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert driver.poll() is None, "the study ended before it could be disturbed"
        assert time.monotonic() < deadline, "nothing happened in five minutes"
        time.sleep(0.2)


def trial_processes(driver: "subprocess.Popen[bytes]") -> list[int]:
    """Return the processes of this cluster's trials. They are found by Ray's title and by the cluster's token."""
    token = Path(f"/proc/{driver.pid}/environ").read_bytes().split(b"RAY_AUTH_TOKEN=")[1].split(b"\0")[0]
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"Trainable" in (path / "cmdline").read_bytes() and token in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:  # the process has ended
            continue
    return found


def outcome(results: Path) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]], str]:
    """Return the results that do not depend on time: trials, metrics of the final stage, weights of the winner."""
    trials = pq.read_table(results / "trials.parquet").to_pylist()
    names = ("name", "state", "objective", "dice_kidney", "dice_tumor", "best_epoch", "epochs", "config")
    metrics = pq.read_table(results / "final" / "metrics.parquet").to_pylist()
    best = json.loads((results / "best" / "config.json").read_text())
    return sorted(tuple(row[name] for name in names) for row in trials), metrics, best["sha256"]


def complete(arguments: list[str], cluster: LocalCluster) -> None:
    """Run a study on the cluster to its end."""
    done = subprocess.run(
        arguments, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_study_survives_the_loss_of_node_trial_and_driver(ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    disturbed = tmp_path / "disturbed"
    quiet = tmp_path / "quiet"
    arguments = command(ball_store, tiny_file, disturbed)
    with LocalCluster(3, NodeSize(cpus=1, gpus=0)) as cluster:
        # The undisturbed study comes first, since the other one costs the cluster a node.
        complete(command(ball_store, tiny_file, quiet), cluster)
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with commands.running(arguments, cwd=ROOT, env=cluster.environment, **quietly) as driver:
            wait_until(lambda: len(epochs(disturbed)) == 3 and all(epochs(disturbed).values()), driver)
            cluster.kill_node(2)
            # The trial of the lost node goes on where another one has ended.
            wait_until(lambda: num_ended(disturbed) == 2 and len(trial_processes(driver)) > 0, driver)
            seen = sum(map(len, epochs(disturbed).values()))
            for pid in trial_processes(driver):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: sum(map(len, epochs(disturbed).values())) > seen, driver)
            os.kill(driver.pid, signal.SIGKILL)
        before = epochs(disturbed)
        complete(arguments, cluster)
    after = epochs(disturbed)
    assert len(after) == 3 and {len(own) for own in after.values()} == {5}
    for name, own in before.items():  # an epoch that was trained again would have another duration
        assert after[name][: len(own)] == own
    # A killed driver may leave no files of Ray Tune. Those of the undisturbed study tell where trials ran.
    reports = [line for path in quiet.glob("tune/*/result.json") for line in path.read_text().splitlines()]
    nodes = {json.loads(line)["node_ip"] for line in reports}
    assert nodes == {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
    assert outcome(disturbed) == outcome(quiet)
