"""The optimisers of a run, with the state that its checkpoints keep.

A fused optimiser of PyTorch reads the attribute `found_inf`. Where it is 1, the step changes neither weights nor state;
PyTorch's other implementations refuse the attribute (torch 2.13).
"""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Final, TypeAlias

import torch
from torch import Tensor

from renalnet.config import OptimConfig
from renalnet.config.training import OPTIMIZERS
from renalnet.nets import SegmentationNet

MakeOptimizer: TypeAlias = Callable[[SegmentationNet, OptimConfig], torch.optim.Optimizer]
"""Function that returns the optimiser of a network, with its state as before the first step."""

_SECOND_DECAY: Final = 0.999
"""Decay of AdamW's second moment, PyTorch's default."""


def optimizer_of(net: SegmentationNet, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the configured optimiser of a network."""
    make: MakeOptimizer = resolve_name(OPTIMIZERS[config.name])
    return make(net, config)


def sgd_of(net: SegmentationNet, config: OptimConfig) -> torch.optim.Optimizer:
    """Return SGD with momentum zero."""
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=config.base_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )
    # The first step would create the momentum. Created here, a checkpoint from before that step has it too.
    for parameter in net.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def adamw_of(net: SegmentationNet, config: OptimConfig) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, ICLR 2019) with both moments zero."""
    optimizer = torch.optim.AdamW(
        net.parameters(),
        lr=config.base_rate,
        betas=(config.momentum, _SECOND_DECAY),
        weight_decay=config.weight_decay,
        fused=True,
    )
    for parameter in net.parameters():
        state = optimizer.state[parameter]
        # On the device, as the fused kernel wants it.
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    return optimizer


def state_of(net: SegmentationNet, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return the state of an optimiser by its own names, and in each by the name of the parameter."""
    named = dict(net.named_parameters())
    keys = optimizer.state[next(iter(named.values()))]
    return {key: {name: optimizer.state[parameter][key] for name, parameter in named.items()} for key in keys}
