"""What a cluster offers: slots for trials, and processors for preparation and post-processing."""

import re
from collections.abc import Mapping
from typing import Final

import ray

from renalnet.errors import ConfigError
from renalnet.runtime.machine import FAKE_GPU
from study.config.sections import Cluster, ResourceConfig, Slots

_ROUNDING: Final = 1e-9
"""Slack of a division, so that rounding does not cut a whole number of slots to the one below."""

_APPLE: Final = re.compile(r"accelerator_type:M[1-9](-(Pro|Max|Ultra))?")
"""Resource by which Ray 2.60 names the GPU of an Apple M1 or later, which renalnet does not use."""


def find_slots(config: ResourceConfig) -> Slots:
    """Return what a trial occupies, and how many trials fit into the cluster at once.

    A trial occupies GPUs if a node has a usable one, else processors only. With `scale_to`, the cluster starts nodes on
    demand: a trial then occupies GPUs although no node has one yet, and there are at least `scale_to` slots.

    Raises:
        ConfigError: no node is large enough for a trial, or a number of GPUs is set and no node has one.
    """
    nodes = _node_resources()
    with_gpus = [node for node in nodes if node.get("GPU")]
    if config.gpus_per_trial and not with_gpus and not config.scale_to:
        raise ConfigError(
            f"no node has a usable GPU, and a trial is to have {config.gpus_per_trial:g}; leave "
            "resources.gpus_per_trial (or --gpus) out to compute on processors, or set resources.scale_to where nodes "
            "start on demand"
        )
    gpus = config.gpus if config.scale_to or with_gpus else 0.0
    num_slots = max(sum(_slots_of(node, config.cpus_per_trial, gpus) for node in nodes), config.scale_to)
    if not num_slots:
        raise ConfigError(
            f"no node has the {config.cpus_per_trial} processors and {gpus:g} GPUs of a trial; lower "
            "resources.cpus_per_trial or resources.gpus_per_trial; name resources.scale_to where nodes start on demand"
        )
    are_fake = bool(with_gpus) and all(node.get(FAKE_GPU) for node in with_gpus)
    return Slots(config.cpus_per_trial, gpus, min(num_slots, config.max_concurrent or num_slots), are_fake)


def find_cluster() -> Cluster:
    """Return the number of nodes, processors and usable GPUs that are there now."""
    nodes = _node_resources()
    num_cpus, num_gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    return Cluster(len(nodes), num_cpus, num_gpus)


def total_resources() -> dict[str, int]:
    """Return the processors and GPUs of the cluster as `num_cpus` and `num_gpus`, as the manifest keeps them."""
    cluster = find_cluster()
    return {"num_cpus": cluster.num_cpus, "num_gpus": cluster.num_gpus}


def processor_slots() -> Slots:
    """Return one slot per processor of the cluster."""
    # At least one, because the head of a cluster that starts nodes on demand offers no processors.
    return Slots(1, 0.0, max(int(ray.cluster_resources().get("CPU", 1)), 1))


def _node_resources() -> list[Mapping[str, float]]:
    # Ray lists lost nodes as well.
    return [_usable(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _usable(resources: Mapping[str, float]) -> Mapping[str, float]:
    """Return the resources of a node without a GPU that cannot be used."""
    # The Ray of this machine does not offer such GPUs (`own_ray.offered_gpus`); the node of a cluster may.
    is_apple = any(_APPLE.fullmatch(name) for name in resources)
    return {name: amount for name, amount in resources.items() if not (is_apple and name == "GPU")}


def _slots_of(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    # Counted on each node, because a trial cannot use the processors of two nodes.
    by_cpu = int(node.get("CPU", 0)) // cpus
    return min(by_cpu, int(node.get("GPU", 0) / gpus + _ROUNDING)) if gpus else by_cpu
