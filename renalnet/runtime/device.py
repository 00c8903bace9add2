"""Where and in which number format a network computes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
_ALLOCATORS_WORDS: Final = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
"""What processors' allocators say in a plain RuntimeError: PyTorch's on Linux and Windows, C++'s and oneDNN's."""


@dataclass(frozen=True)
class Device:
    """A torch device and whether it computes in bfloat16 under autocast."""

    torch_device: torch.device
    use_bfloat16: bool

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions compute in."""
        return torch.bfloat16 if self.use_bfloat16 else torch.float32

    def place(self, net: Net) -> Net:
        """The network on the device; networks are built in channels-last layout, which they are fastest in."""
        return net.to(self.torch_device)

    def tensor(self, batch: Tensor) -> Tensor:
        """A batch (B, C, D, H, W) on the device, in the network's layout."""
        return batch.to(self.torch_device, memory_format=torch.channels_last_3d, non_blocking=True)

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in bfloat16 inside, where that pays; weights stay float32."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.use_bfloat16)

    def __str__(self) -> str:
        kind = self.torch_device.type
        name = torch.cuda.get_device_name(self.torch_device) if kind == "cuda" else kind
        return f"{name}, {'bfloat16' if self.use_bfloat16 else 'float32'}"


def pick_device(precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Device:
    """A GPU if there is one, else the processor; `auto` is bfloat16 only where the hardware computes in it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    use_bfloat16 = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return Device(device, use_bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")  # without these instructions the processor emulates bfloat16, slower than float32
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or the host, is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATORS_WORDS)
