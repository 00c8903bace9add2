"""A study submitted to a running Ray head, with token authentication, as `cluster/README.md` says."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from renalnet.data.store import Store

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """A Ray head node of its own ports, folder and token."""

    address: str
    environment: dict[str, str]

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Submit, again while the head that has just started has no agent yet to run the job."""
        command = [RAY, "job", "submit", "--address", self.address, "--working-dir", str(ROOT), "--", *words]
        for _ in range(30):
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=300, check=False
            )
            if "No available agent" not in done.stderr:
                return done
            time.sleep(1)
        raise AssertionError(done.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(address: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=1).close()
        except urllib.error.HTTPError:
            return  # it answers, and asks for the token
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no Ray head at {address} after a minute")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = tempfile.mkdtemp(prefix="ray-")  # short: Ray puts sockets below it, whose paths are limited
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | token
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    dashboard, port = free_port(), free_port()
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    ports += ["--dashboard-host=127.0.0.1", "--num-cpus=2"]
    command = [RAY, "start", "--head", "--block", f"--temp-dir={folder}", *ports]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    wait_until_up(address)
    yield Head(address, environment)
    process.terminate()
    process.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_submitted_study_succeeds(head: Head, ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    options = ["--config", str(tiny_file), "--data", ball_store.path, "--results", str(tmp_path / "results")]
    done = head.submit("python", "-m", "study.run", "--preset", "quick", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Table I" in done.stdout and "succeeded" in done.stdout
    assert (tmp_path / "results" / "report.html").exists()


@pytest.mark.slow
def test_relative_results_are_refused_inside_a_job(head: Head, ball_store: Store) -> None:
    done = head.submit("python", "-m", "study.run", "--data", ball_store.path, "--results", "results/lost")
    assert done.returncode != 0
    assert "inside a submitted job this must be an absolute path" in done.stdout


@pytest.mark.slow
def test_submission_without_the_token_is_refused(head: Head) -> None:
    environment = {**head.environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = Head(head.address, environment).submit("python", "-c", "print('ran')")
    assert done.returncode != 0 and "ran" not in done.stdout.splitlines()
