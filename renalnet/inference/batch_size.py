"""The number of sub-volumes that go through a network at once, by the memory of the device."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from renalnet.runtime.device import is_out_of_memory

_MAX_SIZE: Final = 32
"""Larger batches are not faster, and more slices wait for their last vote."""
_MEMORY_SHARE: Final = 0.8
"""Share of the free GPU memory to fill. The rest is left for fragmentation and for libraries."""


class BatchSizer:
    """Runs sub-volumes in batches. The first batch measures the memory, the next ones are as large as fits.

    On a CPU the size does not change: larger batches leave the caches and need more memory.
    """

    def __init__(self, device: torch.device, size: int = 1) -> None:
        """Start with batches of `size` sub-volumes on the device of the networks."""
        self._device = device
        self._is_known = device.type != "cuda"
        self.size = size
        """Number of sub-volumes in a batch."""

    def run(self, forward: Callable[[Tensor], Tensor], sub_volumes: Tensor) -> Tensor:
        """Return the logits of some sub-volumes (B, 1, d, h, w), computed in batches of at most `size`.

        Where memory runs out, the batch is halved. Where a single sub-volume does not fit, the error is raised.
        """
        done: list[Tensor] = []
        at = 0
        while at < len(sub_volumes):
            part = sub_volumes[at : at + self.size]
            try:
                done.append(self._measured(forward, part))
            # PyTorch's out-of-memory error is a RuntimeError, and its CPU allocators raise a plain one.
            except RuntimeError as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self.size = len(part) // 2
                continue
            at += len(part)
        # A single batch needs no copy.
        return done[0] if len(done) == 1 else torch.cat(done)

    def _measured(self, forward: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
        if self._is_known:
            return forward(part)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        logits = forward(part)
        # Without what was allocated before, such as weights, since that does not grow with the batch.
        taken = torch.cuda.max_memory_allocated(self._device) - before
        # Memory that PyTorch's allocator has cached is free for the next batch, but the driver counts it as used.
        reserved = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + reserved
        self.size = max(1, min(_MAX_SIZE, int(_MEMORY_SHARE * free * len(part) / max(taken, 1))))
        # Only set after a success, so a first batch that does not fit is halved and measured again.
        self._is_known = True
        return logits
