"""A cluster of many nodes on one machine: where tasks run, the death of a node, and that nothing is left over."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import commands

from cluster.local import LocalCluster
from cluster.node import NodeSize
from cluster.ray_private import num_gpus
from renalnet.errors import ClusterError

ROOT = Path(__file__).parents[2]
TASKS = """
import json, os, ray, sys, time
ray.init(os.environ["RAY_ADDRESS"], logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=0, num_gpus=1)
def where():
    time.sleep(1)
    own = next(node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id())
    assert own["Resources"].get("fake_gpu") == FAKE, own
    return ray.util.get_node_ip_address()
print(json.dumps(sorted(ray.get([where.remote() for _ in range(int(sys.argv[1]))]))))
"""


def nodes_of_tasks(cluster: LocalCluster, num_tasks: int) -> list[str]:
    """Run `num_tasks` tasks of one GPU and one second each, and return the addresses of their nodes."""
    # The nodes say that their GPUs are fake where this machine has none.
    fake = None if num_gpus() else 1.0
    command = [sys.executable, "-c", f"FAKE = {fake}\n{TASKS}", str(num_tasks)]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def local(*command: str) -> list[str]:
    return [sys.executable, "-m", "cluster.local", "--nodes", "1", "--", *command]


def processes_naming(text: str) -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if text in line]


@pytest.mark.slow
def test_nodes_share_the_tasks_and_outlive_a_killed_one() -> None:
    with LocalCluster(3, NodeSize(1, 1), head=NodeSize(0, 0)) as cluster:
        folder = str(cluster.environment_file.parent)
        assert set(nodes_of_tasks(cluster, 6)) == {"127.0.0.3", "127.0.0.4"}
        cluster.kill_node(1)
        assert set(nodes_of_tasks(cluster, 2)) == {"127.0.0.4"}
        assert cluster.add_node() == 3
        assert "127.0.0.5" in cluster.environment["no_proxy"].split(",")
        assert set(nodes_of_tasks(cluster, 6)) == {"127.0.0.4", "127.0.0.5"}
        assert processes_naming(folder)
    assert not processes_naming(folder)
    assert not Path(folder).exists()


@pytest.mark.slow
def test_only_the_token_opens_the_dashboard_and_only_the_user_reads_it(ray_head: LocalCluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{ray_head.dashboard}/api/jobs/", timeout=10)
    refused.value.close()
    assert ray_head.dashboard.startswith("http://127.0.0.1:")
    assert ray_head.environment_file.stat().st_mode & 0o777 == 0o600
    assert ray_head.environment_file.parent.stat().st_mode & 0o777 == 0o700
    shown = subprocess.run(
        ["sh", "-c", f". {ray_head.environment_file} && echo $RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_ADDRESS"],
        capture_output=True,
        text=True,
        check=True,
    )
    environment = ray_head.environment
    assert shown.stdout.split() == ["token", environment["RAY_AUTH_TOKEN"], environment["RAY_ADDRESS"]]


def test_settings_of_another_ray_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    cluster = LocalCluster(1)
    assert cluster.environment["RAY_ADDRESS"] == cluster.address
    assert "other" not in cluster.environment.values()


def test_a_cluster_of_no_nodes_is_refused() -> None:
    with pytest.raises(ClusterError, match="0 nodes: a cluster on one machine has 1 to"):
        LocalCluster(0)


@pytest.mark.slow
def test_a_head_that_cannot_start_is_reported_and_leaves_nothing() -> None:
    cluster = LocalCluster(1, NodeSize(object_store_mb=1))  # Ray refuses so small a store
    with pytest.raises(ClusterError, match=r"node 127\.0\.0\.2 has ended; output of `ray start`: "), cluster:
        pass
    assert not cluster.environment_file.parent.exists()


@pytest.mark.slow
def test_the_command_s_exit_code_is_passed_on() -> None:
    done = subprocess.run(
        local("sh", "-c", "echo $RAY_ADDRESS; exit 7"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("127.0.0.2:")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command_and_everything_ends(tmp_path: Path, number: signal.Signals, code: int) -> None:
    mark = tmp_path / "began"
    command = ["sh", "-c", f"echo $RAY_AUTH_TOKEN > {mark}; exec sleep 60"]
    with commands.running(local(*command), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_for(mark)
        folders = node_folders(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert folders and not any(processes_naming(folder) or Path(folder).exists() for folder in folders)


@pytest.mark.slow
def test_nothing_outlives_a_killed_command(tmp_path: Path) -> None:
    mark = tmp_path / "began"
    with commands.running(local("sh", "-c", f"touch {mark}; exec sleep 60"), cwd=ROOT) as process:
        wait_for(mark)
        folders = node_folders(process.pid)
        process.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(processes_naming(folder) for folder in folders):
        time.sleep(0.2)
    assert folders and not any(processes_naming(folder) for folder in folders)
    for folder in folders:
        shutil.rmtree(folder)  # only the killed process would have removed it


def wait_for(mark: Path) -> None:
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def node_folders(pid: int) -> list[str]:
    """Return the temporary folders of the nodes that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    arguments = [argument for child in children for argument in Path(f"/proc/{child}/cmdline").read_text().split("\0")]
    return [
        str(Path(argument.removeprefix("--temp-dir=")).parent)
        for argument in arguments
        if argument.startswith("--temp-dir=")
    ]
