"""Manifests for Kubernetes, Ray's cluster launcher and Docker are valid, of one version, and without extra rights."""

import json
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

from renalnet.config import override
from study.config.presets import study_preset
from study.config.sections import StudyConfig

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHER = ("aws.yaml", "onprem.yaml")

QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}
COUNT = {"type": "integer", "minimum": 0}
RESOURCES = {
    "type": "object",
    "required": ["requests", "limits"],
    "additionalProperties": False,
    "properties": {name: {"type": "object", "additionalProperties": QUANTITY} for name in ("requests", "limits")},
}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources", "securityContext", "volumeMounts"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "image": {"type": "string"},
        "resources": RESOURCES,
        "securityContext": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"allowPrivilegeEscalation": {"const": False}, "capabilities": {"const": {"drop": ["ALL"]}}},
        },
        "ports": {
            "type": "array",
            "items": {"type": "object", "required": ["containerPort"], "properties": {"containerPort": COUNT}},
        },
        "volumeMounts": {"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
    },
}
POD = {
    "type": "object",
    "required": ["spec"],
    "additionalProperties": False,
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers", "securityContext", "volumes"],
            "additionalProperties": False,
            "properties": {
                "containers": {"type": "array", "items": CONTAINER, "minItems": 1, "maxItems": 1},
                "securityContext": {
                    "type": "object",
                    "required": ["runAsNonRoot", "runAsUser", "fsGroup"],
                    "properties": {"runAsNonRoot": {"const": True}, "runAsUser": {"type": "integer", "minimum": 1}},
                },
                "volumes": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                "tolerations": {"type": "array"},
            },
        }
    },
}
START_PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
RAY_CLUSTER = {
    "type": "object",
    "required": ["rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"],
    "additionalProperties": False,
    "properties": {
        "rayVersion": {"type": "string"},
        "authOptions": {"const": {"mode": "token"}},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
                "idleTimeoutSeconds": COUNT,
                "resources": RESOURCES,
            },
        },
        "headGroupSpec": {
            "type": "object",
            "required": ["rayStartParams", "template"],
            "additionalProperties": False,
            "properties": {
                "serviceType": {"enum": ["ClusterIP"]},
                "rayStartParams": START_PARAMETERS,
                "template": POD,
            },
        },
        "workerGroupSpecs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                "additionalProperties": False,
                "properties": {
                    "groupName": {"type": "string"},
                    "replicas": COUNT,
                    "minReplicas": COUNT,
                    "maxReplicas": COUNT,
                    "rayStartParams": START_PARAMETERS,
                    "template": POD,
                },
            },
        },
    },
}
RAY_JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string"},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "SidecarMode"]},
                "backoffLimit": COUNT,
                "preRunningDeadlineSeconds": {"type": "integer", "minimum": 1},
                "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": COUNT,
                "rayClusterSpec": RAY_CLUSTER,
            },
        },
    },
}
"""The part of KubeRay's definition of a RayJob (ray.io_rayjobs.yaml) that the manifest uses, and the project's own
rules."""


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8")))


@pytest.fixture
def job() -> dict[str, Any]:
    return read("kuberay/rayjob.yaml")


@pytest.fixture
def ray_version() -> str:
    """Return the version of Ray that the `cluster` extra pins."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    return next(word.partition("==")[2] for word in extras["cluster"] if word.startswith("ray["))


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def settings_of(command: list[str]) -> StudyConfig:
    assignments = [value for option, value in pairwise(command) if option == "--set"]
    return override(study_preset(dict(pairwise(command))["--preset"]), assignments)


def test_rayjob_has_the_fields_types_and_values_of_the_definition(job: dict[str, Any]) -> None:
    jsonschema.validate(job, RAY_JOB)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "backoffLimit"), "4"),
        (("spec", "submissionMode"), "Sidecar"),
        (("spec", "rayClusterSpec", "authOptions"), {"mode": "disabled"}),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroup"), []),
    ],
)
def test_the_schema_catches_what_is_refused(job: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    inner = job
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAY_JOB)


def test_ray_s_autoscaler_starts_gpu_nodes_on_demand_and_no_trial_on_the_head(job: dict[str, Any]) -> None:
    cluster = {"metadata": {"name": "study", "namespace": "default"}, "spec": job["spec"]["rayClusterSpec"]}
    read_by_ray = _derive_autoscaling_config_from_ray_cr(cluster)
    types = read_by_ray["available_node_types"]
    assert types[read_by_ray["head_node_type"]]["resources"]["CPU"] == 0
    gpu = types["gpu"]
    assert gpu["resources"]["GPU"] == 1 and gpu["resources"]["CPU"] == 7
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 8)
    assert read_by_ray["idle_timeout_minutes"] == 5


def test_the_rayjob_s_command_is_a_study_that_fits_its_workers(job: dict[str, Any]) -> None:
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:3] == ["python", "-m", "study.run"]
    resources = settings_of(command).resources
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert resources.scale_to == workers["maxReplicas"]
    assert resources.cpus_per_trial == int(limits["cpu"])
    results = command[command.index("--results") + 1]
    assert all(any(results.startswith(mount["mountPath"]) for mount in mounts(pod)) for pod in pods(job))


def mounts(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pod["containers"][0]["volumeMounts"])


def test_every_pod_has_equal_requests_and_limits_and_shared_memory(job: dict[str, Any]) -> None:
    for pod in pods(job):
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        memory = next(volume for volume in pod["volumes"] if volume["name"] == "memory")["emptyDir"]
        assert memory["medium"] == "Memory"
        assert 2 * int(memory["sizeLimit"][:-2]) <= int(resources["limits"]["memory"][:-2])
        assert {"name": "memory", "mountPath": "/dev/shm"} in mounts(pod)


def test_the_shell_is_as_locked_as_the_study_and_sees_its_volume(job: dict[str, Any]) -> None:
    shell = read("kuberay/shell.yaml")["spec"]
    head = pods(job)[0]
    assert shell["securityContext"] == head["securityContext"]
    assert shell["containers"][0]["securityContext"] == head["containers"][0]["securityContext"]
    assert mounts(shell)[0] == mounts(head)[0] and shell["volumes"][0] == head["volumes"][0]


def test_the_volume_is_the_one_that_the_pods_mount(job: dict[str, Any]) -> None:
    volume = read("kuberay/volume.yaml")
    assert volume["kind"] == "PersistentVolumeClaim" and volume["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(job):
        claims = [item["persistentVolumeClaim"]["claimName"] for item in pod["volumes"] if item["name"] == "shared"]
        assert claims == [volume["metadata"]["name"]]


@pytest.mark.parametrize("name", LAUNCHER)
def test_ray_s_cluster_launcher_takes_the_file(name: str) -> None:
    config = read(name)
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    jsonschema.validate(config, json.loads(schema.read_text(encoding="utf-8")))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_the_cloud_s_head_is_small_and_its_gpu_machines_come_on_demand() -> None:
    types = prepare_config(read("aws.yaml"))["available_node_types"]
    head = types["head"]
    gpu = types["gpu"]
    assert head["resources"] == {"CPU": 0} and head["max_workers"] == 0
    assert gpu["min_workers"] == 0 and gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_all_machines_of_one_s_own_are_used() -> None:
    config = read("onprem.yaml")
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    node_type = next(iter(prepare_config(config)["available_node_types"].values()))
    assert node_type["min_workers"] == config["max_workers"]


@pytest.mark.parametrize("name", LAUNCHER)
def test_launched_nodes_ask_for_a_token_and_keep_the_dashboard_on_loopback(name: str) -> None:
    config = read(name)
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])
    assert any("--dashboard-host=127.0.0.1" in line for line in config["head_start_ray_commands"])
    everywhere = " ".join(config.get("docker", {}).get("run_options", []))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in everywhere or all("RAY_AUTH_MODE=token" in line for line in commands[1:])


def test_versions_are_those_of_pyproject(ray_version: str, job: dict[str, Any]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray_version
    image = f"REGISTRY/renalnet:{project['version']}"
    assert {pod["containers"][0]["image"] for pod in pods(job)} == {image}
    assert read("aws.yaml")["docker"]["image"] == image
    assert read("kuberay/shell.yaml")["spec"]["containers"][0]["image"] == image
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert image in dockerfile
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(encoding="utf-8")
            assert set(re.findall(r"\bray(?:\[\w+\])?[=:]+(\d[\d.]*)", text)) <= {ray_version}, path


def test_the_image_is_of_a_python_that_the_project_takes_and_runs_without_root() -> None:
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    bases = [rest.split()[0] for step, rest in steps if step == "FROM"]
    assert bases == ["python:3.11-slim-bookworm"] * 2
    assert [rest for step, rest in steps if step == "USER"] == ["1000"]
    installs = [rest for step, rest in steps if step == "RUN" and "pip install" in rest]
    assert len(installs) == 1 and '".[cluster]"' in installs[0] and "is_compiled()" in installs[0]
    copied = [source for step, rest in steps if step == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", "renalnet", "study", "cluster"} <= set(copied)


def test_the_installed_packages_are_those_of_the_image() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    assert packages == ["renalnet*", "study*", "cluster*"]
