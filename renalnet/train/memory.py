"""Running out of memory: how it shows, and what is put back before a step is tried again."""

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

_ALLOCATORS_WORDS: Final = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
"""What processors' allocators say in a plain RuntimeError: PyTorch's on Linux and Windows, C++'s and oneDNN's."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or the host, is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATORS_WORDS)


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
