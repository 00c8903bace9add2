"""The buffers of a network, restored before a step is tried again after memory ran out."""

from collections.abc import Iterable

import torch
from torch import Tensor


class BufferHistory:
    """Copies of the network's buffers (BatchNorm's running statistics) from before each of the last two steps.

    Two are needed because on a GPU, a failure is known only after the next step has been computed.
    """

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        self._buffers = list(buffers)
        self._last = [buffer.clone() for buffer in self._buffers]
        self._before = [buffer.clone() for buffer in self._buffers]

    def take(self) -> None:
        """Copy the buffers at the start of a step."""
        # Swapped, so that one copy is enough and no memory is allocated.
        self._last, self._before = self._before, self._last
        self._copy(self._last, self._buffers)

    def put_back(self, steps: int = 1) -> None:
        """Restore the buffers from before the last step, or before the last two."""
        self._copy(self._buffers, self._last if steps == 1 else self._before)

    @staticmethod
    @torch.no_grad()
    def _copy(to: list[Tensor], source: list[Tensor]) -> None:
        # PyTorch refuses empty lists.
        if to:
            torch._foreach_copy_(to, source)
