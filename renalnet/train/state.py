"""Tensors of a run in its checkpoints, and the environment that decides whether it repeats bit for bit."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from renalnet.nets import fused
from renalnet.runtime.device import Device, processor_name
from renalnet.train.optimizers import state_of
from renalnet.train.step import Stepper

_MODEL: Final = "model."
_NAMES: Final = {"momentum_buffer": "momentum"}
"""Names of parts of an optimiser's state in checkpoints, where they differ from PyTorch's."""


def tensors_of(stepper: Stepper) -> dict[str, Tensor]:
    """Return the weights and the state of the optimiser by name."""
    weights = {f"{_MODEL}{name}": tensor for name, tensor in stepper.net.state_dict().items()}
    return weights | _optimizer_state(stepper)


def put_tensors(stepper: Stepper, tensors: Mapping[str, Tensor]) -> None:
    """Restore the weights and the state of the optimiser that `tensors_of` returned."""
    stepper.net.load_state_dict(weights_in(tensors))
    for name, tensor in _optimizer_state(stepper).items():
        tensor.copy_(tensors[name])


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights among the tensors that `tensors_of` returned, by their names in the network."""
    return {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items() if name.startswith(_MODEL)}


def environment(stepper: Stepper, device: Device) -> dict[str, str | int | bool]:
    """Return what decides the rounding of a run besides its configuration and data."""
    exact = stepper.forward.layers_in_float32
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": processor_name(),
        "device": str(device),
        "compiled": stepper.forward.is_compiled,
        # In this order, so that no warning about a missing compiled part is logged on a GPU.
        "fused": device.torch_device.type == "cpu" and fused.is_compiled(),
        # Only where there are any, as in checkpoints of older versions.
        **({"layers_in_float32": ", ".join(exact)} if exact else {}),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a list of the differences for a message; empty if there are none."""
    # `get`, because the checkpoint of an older version may lack a value.
    return ", ".join(
        f"{name} {before.get(name)} then, {now.get(name)} now"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    )


def _optimizer_state(stepper: Stepper) -> dict[str, Tensor]:
    """Return the tensors of the optimiser themselves, by their names in a checkpoint."""
    state = state_of(stepper.net, stepper.optimizer)
    return {f"{_NAMES.get(key, key)}.{name}": tensor for key, part in state.items() for name, tensor in part.items()}
