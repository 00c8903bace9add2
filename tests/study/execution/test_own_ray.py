"""A Ray on this machine lets nobody in without the token, and finds room for its sockets."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ray._private import accelerators
from ray._private.accelerators import apple_gpu
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from support import commands
from support.ray_driver import joined

from renalnet.errors import ClusterError
from study.execution.connection import connected
from study.execution.own_ray import ask_for_token, offered_gpus, short_folder

ROOT = Path(__file__).parents[3]
VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
START = """
import importlib, sys, time
importlib.import_module(sys.argv[1])
from study.execution.connection import connected
with connected():
    import ray
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def variables() -> list[str | None]:
    return [os.environ.get(name) for name in VARIABLES[1:]]


def test_a_token_is_drawn_once() -> None:
    ask_for_token()
    mode, token = variables()
    assert mode == "token" and token and len(token) == 64
    ask_for_token()
    assert variables() == [mode, token]


def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    ask_for_token()
    assert variables() == ["token", "a" * 64]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    ask_for_token()
    assert variables() == ["disabled", None]


def test_a_named_cluster_has_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ask_for_token()
    assert variables() == [None, None]


def test_a_long_temporary_folder_is_replaced_while_ray_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with short_folder() as folder:
        assert folder is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 40)))
    with short_folder() as folder:
        assert folder and len(folder) <= 40 and Path(folder).is_dir()
    assert not Path(folder).exists()


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's own detection on a machine that says it is an Apple M1; only the answers of the system are replaced."""

    def answer(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        texts = {"SPDisplaysDataType": "Metal Support: Metal 3", "SPHardwareDataType": "Chip: Apple M1 Pro"}
        return subprocess.CompletedProcess(command, 0, texts[command[-1]], "")

    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr(apple_gpu.subprocess, "run", answer)
    # Ray keeps its first answer.
    kept = "_resource_name_to_accelerator_manager"
    monkeypatch.delattr(accelerators.get_accelerator_manager_for_resource, kept, raising=False)
    yield
    accelerators.get_accelerator_manager_for_resource.__dict__.pop(kept, None)


@pytest.mark.usefixtures("apple")
def test_a_gpu_that_pytorch_cannot_use_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ResourceAndLabelSpec` is what `ray.init` asks for the GPUs of a machine."""
    detect = ResourceAndLabelSpec._get_current_node_accelerator
    assert detect(None, {}) == (apple_gpu.AppleGPUAcceleratorManager, 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert detect(offered_gpus(), {}) == (None, 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert detect(offered_gpus(), {})[1] == 1


def test_ray_is_started_with_the_gpus_that_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, num_gpus: int | None, **__: object) -> None:
        raise RuntimeError(f"offered {num_gpus}")

    monkeypatch.setattr("ray.init", start)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ClusterError, match="offered 0"), connected():
        raise AssertionError("no Ray was started")


def started(module: str, environment: dict[str, str]) -> "AbstractContextManager[subprocess.Popen[str]]":
    return commands.running(
        [sys.executable, "-c", START, module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["study.run", "study.bench.search.overhead"])
def test_nobody_joins_without_the_token(module: str, tmp_path: Path) -> None:
    deep = tmp_path / "project_with_a_long_name" / "scratch_folder_of_the_job_1234567890"
    deep.mkdir(parents=True)
    with started(module, {"TMPDIR": str(deep), "RAY_AUTH_TOKEN": "a" * 64}) as own:
        assert own.stdin and own.stdout
        address = own.stdout.readline().strip()
        assert address
        refused = joined(address, {"RAY_AUTH_MODE": "disabled"})
        assert refused.returncode != 0 and "ran" not in refused.stdout
        if module == "study.run":
            other = joined(address, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64})
            assert other.returncode != 0 and "ran" not in other.stdout
            right = joined(address, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64})
            assert right.stdout == "ran\n", right.stderr
        own.stdin.close()
        assert own.wait(60) == 0


def test_a_ray_that_does_not_start_in_time_is_an_error_of_this_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray 2.60 raises `Exception` itself on a machine that is too busy to start a node."""

    def start(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nMore words.")

    monkeypatch.setattr("ray.init", start)
    words = r"^Ray did not start on this machine \(The current node timed out during startup"
    with pytest.raises(ClusterError, match=words), connected():
        raise AssertionError("no Ray was started")
