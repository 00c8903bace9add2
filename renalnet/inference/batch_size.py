"""How many sub-volumes go through a network at once: as many as the device's memory holds."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from renalnet.runtime.device import is_out_of_memory

_MOST: Final = 32
"""More at once gain nothing and make the window of open slices longer."""
_SHARE: Final = 0.8
"""Of the free memory of a GPU that is filled; what fragments and what libraries take comes out of the rest."""


class BatchSizer:
    """Starts with one sub-volume, measures what it takes and goes on with as many as fit.

    On a processor it stays with one: more at once leave the caches, and need the memory.
    """

    def __init__(self, device: torch.device, size: int = 1) -> None:
        """`size` sub-volumes at first, on the device of the networks."""
        self._device = device
        self._is_known = device.type != "cuda"
        self.size = size
        """Sub-volumes at once."""

    def run(self, forward: Callable[[Tensor], Tensor], tiles: Tensor) -> Tensor:
        """The logits of some sub-volumes (B, 1, d, h, w), in parts of at most `size`.

        Where memory runs out the parts are halved; where one sub-volume alone is too large the error is passed on.
        """
        done: list[Tensor] = []
        at = 0
        while at < len(tiles):
            part = tiles[at : at + self.size]
            try:
                done.append(self._measured(forward, part))
            except RuntimeError as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self.size = len(part) // 2
                continue
            at += len(part)
        return done[0] if len(done) == 1 else torch.cat(done)

    def _measured(self, forward: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
        if self._is_known:
            return forward(part)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        logits = forward(part)
        taken = torch.cuda.max_memory_allocated(self._device) - before
        reserved = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + reserved
        self.size = max(1, min(_MOST, int(_SHARE * free * len(part) / max(taken, 1))))
        self._is_known = True
        return logits
