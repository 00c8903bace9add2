"""The interface of a backend, which computes the networks of a model on sub-volumes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""From sub-volumes (B, 1, d, h, w) float32 to logits (B, C, d, h, w) of any float type."""


@dataclass(frozen=True, eq=False)
class Workload:
    """What is to be computed for an ROI."""

    example: Tensor
    """One of its sub-volumes, (1, 1, d, h, w) float32. All others have the same shape."""
    count: int
    """Number of sub-volumes, their mirror images included."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The networks of a model, ready for sub-volumes of one shape."""

    backend: str
    """Library, its version and its number format, as `torch 2.13.0, float32`."""
    forwards: tuple[Forward, ...]
    """One function for each network."""
    device: torch.device
    """Device on which sub-volumes and logits are."""


class Backend(Protocol):
    """Protocol of a backend."""

    def prepared(self, work: Workload) -> Prepared:
        """Return the networks for the sub-volumes of an ROI."""
        ...
