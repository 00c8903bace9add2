"""Marks of tests that need features of the processor."""

from typing import Final

import pytest
import torch

needs_bfloat16_convolutions: Final = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"),
    reason="oneDNN convolves in bfloat16 from AVX-512 on; PyTorch's own kernels do not keep channels-last memory",
)
