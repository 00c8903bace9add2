"""The resources of a trial: which ones are refused, and what a cluster that starts GPU nodes later is asked for."""

import pytest
import ray

from renalnet.config import parse
from renalnet.errors import ClusterError, ConfigError
from renalnet.runtime.machine import FAKE_GPU
from study.config.sections import Cluster, ResourceConfig, Slots, StudyConfig
from study.execution.connection import check_address, connected
from study.execution.slots import find_cluster, find_slots, total_resources


@pytest.mark.parametrize("gpus", [0.25, 1.0, 2.0])
def test_a_share_of_one_gpu_or_whole_ones_are_taken(gpus: float) -> None:
    assert ResourceConfig(gpus_per_trial=gpus).gpus_per_trial == gpus


def test_a_fraction_above_one_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_trial 1\.5: Ray shares only a single GPU; use a fraction up to 1"):
        parse(StudyConfig, {"resources": {"gpus_per_trial": 1.5}}, "a study")


@pytest.mark.parametrize(
    ("head", "scale_to", "expected"),
    [
        ({"CPU": 8.0}, 0, (0.0, 4)),
        ({"CPU": 8.0}, 3, (1.0, 3)),  # none of them on the head
        ({}, 3, (1.0, 3)),
        ({"CPU": 8.0, "GPU": 4.0}, 3, (1.0, 4)),
    ],
    ids=["processors", "processors-growing", "empty-growing", "gpus-growing"],
)
def test_a_growing_cluster_is_asked_for_gpus(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, float], scale_to: int, expected: tuple[float, int]
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": head}])
    slots = find_slots(ResourceConfig(cpus_per_trial=2, scale_to=scale_to))
    assert (slots.gpus, slots.num_slots) == expected


def test_a_number_of_gpus_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0}}])
    assert find_slots(ResourceConfig()) == Slots(1, 0.0, 8)
    with pytest.raises(ConfigError, match=r"^no node has a usable GPU, .* to have 1; leave resources\.gpus_per_trial"):
        find_slots(ResourceConfig(gpus_per_trial=1))


@pytest.mark.parametrize("chip", ["M1", "M3-Pro", "M2-Ultra"])
def test_the_gpu_of_an_apple_chip_is_no_slot(monkeypatch: pytest.MonkeyPatch, chip: str) -> None:
    apple = {"CPU": 8.0, "GPU": 1.0, f"accelerator_type:{chip}": 1.0}
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": apple}])
    assert find_slots(ResourceConfig(cpus_per_trial=2)) == Slots(2, 0.0, 4)
    assert find_cluster() == Cluster(1, 8, 0)
    assert total_resources() == {"num_cpus": 8, "num_gpus": 0}
    with pytest.raises(ConfigError, match=r"^no node has a usable GPU"):
        find_slots(ResourceConfig(gpus_per_trial=1))


@pytest.mark.parametrize("kind", ["M60", "A100", "AMD-Instinct-MI100"])
def test_other_gpus_are_slots(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    node = {"CPU": 8.0, "GPU": 2.0, f"accelerator_type:{kind}": 1.0}
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node}])
    assert find_slots(ResourceConfig()) == Slots(1, 1.0, 2)


@pytest.mark.parametrize(("of_nodes", "real_gpus"), [((2.0, 2.0), 0.0), ((2.0, 0.0), 1.0), ((0.0, 0.0), 1.0)])
def test_hours_of_fake_gpus_are_hours_of_processors(
    monkeypatch: pytest.MonkeyPatch, of_nodes: tuple[float, float], real_gpus: float
) -> None:
    """GPUs are real unless every node with one says that its own are fake."""
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 2.0, FAKE_GPU: fake}} for fake in of_nodes]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    slots = find_slots(ResourceConfig())
    assert (slots.gpus, slots.num_slots, slots.real_gpus) == (1.0, 4, real_gpus)


@pytest.mark.parametrize("address", ["foo", "127.0.0.1:9", "127.0.0.1:port"])
def test_an_address_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(ClusterError, match=rf"^RAY_ADDRESS={address}: no cluster joined .* RAY_AUTH_TOKEN"),
        connected(),
    ):
        pass


def test_a_silent_address_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ClusterError, match=r"^RAY_ADDRESS=127\.0\.0\.1:9: no cluster joined"):
        check_address()
    monkeypatch.delenv("RAY_ADDRESS")
    check_address()
