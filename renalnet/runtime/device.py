"""Device and number format in which a network computes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
_ALLOCATION_ERRORS: Final = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
"""Texts of a plain RuntimeError from the allocators of processors: PyTorch's on Linux and Windows, C++'s, oneDNN's."""


@dataclass(frozen=True)
class Device:
    """A PyTorch device and its number format."""

    torch_device: torch.device
    use_bfloat16: bool
    """Whether it computes in bfloat16 under autocast; otherwise in float32."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the convolutions."""
        return torch.bfloat16 if self.use_bfloat16 else torch.float32

    @property
    def emulates_bfloat16(self) -> bool:
        """Whether it computes in bfloat16 without instructions for it, up to a hundred times slower than in float32."""
        return self.use_bfloat16 and not _has_bfloat16(self.torch_device)

    def place(self, net: Net) -> Net:
        """Return the network on the device. Its memory layout is not changed."""
        # Networks are built in the channels-last layout, in which they are fastest.
        return net.to(self.torch_device)

    def tensor(self, batch: Tensor) -> Tensor:
        """Return a batch (B, C, D, H, W) on the device, in channels-last layout as the network."""
        return batch.to(self.torch_device, memory_format=torch.channels_last_3d, non_blocking=True)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which operations compute in bfloat16 if `use_bfloat16`. Weights stay float32."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.use_bfloat16)

    def __str__(self) -> str:
        kind = self.torch_device.type
        name = torch.cuda.get_device_name(self.torch_device) if kind == "cuda" else kind
        number_format = "bfloat16" if self.use_bfloat16 else "float32"
        return f"{name}, {'emulated ' if self.emulates_bfloat16 else ''}{number_format}"


def pick_device(precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Device:
    """Return the GPU if there is one, otherwise the processor.

    With `auto`, the number format is bfloat16 only if the hardware computes in it.
    """
    device = torch.device("cuda" if has_gpu() else "cpu")
    use_bfloat16 = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return Device(device, use_bfloat16)


def has_gpu() -> bool:
    """Whether networks are computed on a GPU here, of NVIDIA or AMD. The GPU of an Apple chip is not used."""
    return torch.cuda.is_available()


def processor_name() -> str:
    """Return the name of the processor, if the system gives it, and the instruction set that PyTorch uses."""
    lines = _cpuinfo().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    # With AVX2 instead of AVX-512, the twelfth loss of a run differed by up to 66 %.
    return f"{next(names, 'unknown')}, {torch.backends.cpu.get_cpu_capability()}"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        # By default, PyTorch also counts GPUs that only emulate bfloat16.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without the instructions below, a processor emulates bfloat16, which is slower than float32.
    flags = _cpuinfo()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the device or the host is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION_ERRORS)
