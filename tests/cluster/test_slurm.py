"""The Slurm script, with real Ray nodes on this machine and scripts that replace Slurm's programs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import commands

from cluster.local import LocalCluster
from cluster.wait import wait
from renalnet.errors import ClusterError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sh"
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${1#*=}; shift; done
echo "$node ${SRUN_CPUS_PER_TASK:-} cpus:" $* >> "$SHIM_LOG"
case "$1 $2" in
  "getent ahostsv4") [ -n "${NO_NAMES:-}" ] || echo "127.0.0.2 STREAM $3" ;;
  "hostname -I") echo "127.0.0.2 172.17.0.1" ;;
  "bash -c") exec "$@" --node-ip-address="127.0.0.${node#node}" --object-store-memory=100000000 ;;
  *) exec "$@" ;;
esac
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$SHIM_LOG"
[ "$1 $2" != "show hostnames" ] || printf 'node2\\nnode3\\n'
"""
TASKS = """
import os, ray
ray.init(os.environ["RAY_ADDRESS"], logging_level="ERROR", log_to_driver=False)
print("nodes", sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]))
print("slots", ray.cluster_resources()["CPU"])
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the variables that Slurm sets, with its programs replaced, and with this Python's environment."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return variables | {
        "PATH": f"{programs}:{variables['PATH']}",
        "RENALNET_ENV": str(Path(sys.executable).parents[1]),
        "SHIM_LOG": str(tmp_path / "log"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[2-3]",
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }


def started(environment: dict[str, str]) -> list[str]:
    return Path(environment["SHIM_LOG"]).read_text().splitlines()


def folders_left() -> list[Path]:
    return list(Path("/tmp").glob(f"ray-{os.getpid()}-*"))


def test_the_script_is_bash_and_its_limits_are_slurm_s() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SCRIPT.read_text(), re.MULTILINE))
    assert options["signal"] == "B:TERM@300"  # the script gets the signal five minutes before the limit
    assert {"requeue", "no-kill", "open-mode", "time", "gpus-per-node", "cpus-per-task"} < set(options)
    assert os.access(SCRIPT, os.X_OK)


def test_without_a_command_nothing_is_started(environment: dict[str, str]) -> None:
    done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: no command; sbatch ")
    assert not Path(environment["SHIM_LOG"]).exists()


@pytest.mark.slow
def test_a_command_finds_all_nodes_and_everything_ends_with_it(environment: dict[str, str]) -> None:
    command = [str(SCRIPT), "sh", "-c", 'python -c "$0"; exit 5', TASKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 5, done.stderr
    assert "nodes ['127.0.0.2', '127.0.0.3']" in done.stdout and "slots 6.0" in done.stdout
    assert started(environment)[1] == "node3 3 cpus: getent ahostsv4 node2"
    head, worker = (line for line in started(environment) if "run_node ()" in line)
    assert head.startswith("node2 3 cpus: ") and "--dashboard-host=127.0.0.1" in head
    assert worker.startswith("node3 3 cpus: ") and "--address=127.0.0.2:" in worker
    assert not [line for line in started(environment) if "requeue" in line]
    assert not folders_left()


@pytest.mark.slow
def test_before_the_time_limit_the_command_is_stopped_and_the_job_goes_back_into_the_queue(
    environment: dict[str, str], tmp_path: Path
) -> None:
    mark = tmp_path / "began"
    driver = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(600)"
    nameless = environment | {"NO_NAMES": "1"}  # the head is found by its list of addresses
    with commands.running([str(SCRIPT), "python", "-c", driver], env=nameless, start_new_session=True) as job:
        wait_for(mark)
        job.send_signal(signal.SIGTERM)  # only to the script, as --signal=B: does
        assert job.wait(timeout=120) == 143
    assert started(environment)[-1] == f"scontrol requeue {os.getpid()}"
    assert not folders_left()


def wait_for(mark: Path) -> None:
    deadline = time.monotonic() + 240
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_waiting_prints_the_number_of_nodes(ray_head: LocalCluster) -> None:
    command = [sys.executable, "-m", "cluster.wait", "--nodes", "2", "--timeout-s", "1"]
    done = commands.run(command, env=ray_head.environment)
    assert done.returncode == 0 and "1 of 2 nodes" in done.stderr


@pytest.mark.slow
def test_waiting_for_no_cluster_ends_in_one_line() -> None:
    command = [
        sys.executable,
        "-m",
        "cluster.wait",
        "--nodes",
        "1",
        "--timeout-s",
        "0",
        "--address",
        "http://127.0.0.1:9",
    ]
    done = commands.run(command)
    assert done.returncode == 2 and done.stderr.startswith("error: no node at http://127.0.0.1:9 after 0 s")


@pytest.mark.slow
@pytest.mark.parametrize(("address", "named"), [("foo", "http://foo"), ("http://foo:port", "http://foo:port")])
def test_waiting_takes_any_address(monkeypatch: pytest.MonkeyPatch, address: str, named: str) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    remedy = "give the address of its dashboard with --address"
    with pytest.raises(ClusterError, match=f"^no node at {named} after 0 s; .* {remedy}"):
        wait(nodes=1, timeout_s=0.0, address=address)
