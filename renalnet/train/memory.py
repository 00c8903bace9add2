"""Running out of memory: how it shows, and what is put back before a step is tried again."""

from collections.abc import Iterable

import torch
from torch import Tensor


class BufferHistory:
    """The network's buffers (BatchNorm's running statistics) as they were before each of the last two steps.

    Two, since on a GPU a step is known to have failed only when the next has been computed.
    """

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        self._buffers = list(buffers)
        self._last, self._before = ([b.clone() for b in self._buffers] for _ in range(2))

    def take(self) -> None:
        """A step begins."""
        self._last, self._before = self._before, self._last
        self._copy(self._last, self._buffers)

    def put_back(self, steps: int = 1) -> None:
        """Undo what the last step, or the last two, did to the buffers."""
        self._copy(self._buffers, self._last if steps == 1 else self._before)

    @staticmethod
    @torch.no_grad()
    def _copy(to: list[Tensor], source: list[Tensor]) -> None:
        if to:
            torch._foreach_copy_(to, source)
