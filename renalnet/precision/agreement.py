"""Whether a convolution in bfloat16 agrees with the same one in float32 on this processor."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from renalnet.precision.convolutions import Convolution
from renalnet.runtime.device import is_out_of_memory

_REPEATS: Final = 2
"""Memory that was never written may hold the right numbers by chance."""
_LARGEST_ERROR: Final = 2**-5
"""Largest difference, as a share of the sum of a value and the root of the mean square of all. Rounding to bfloat16
makes 2⁻⁹ of the value."""
_NAN_BYTE: Final = 255
"""Bytes of this value are NaN in bfloat16 and in float32."""
_HALVINGS: Final = 12
_MEASURABLE_S: Final = 0.05


def fault_of(convolution: Convolution) -> str | None:
    """Return what is wrong with a convolution in bfloat16, empty if nothing is; None where memory does not suffice.

    Its output and its gradients are compared with float32, computed from the same rounded random values in
    channels-last memory.
    """
    try:
        inputs = _inputs(convolution)
        exact = _results(convolution, inputs, torch.float32)
        faults = (_difference(_results(convolution, inputs, torch.bfloat16), exact) for _ in range(_REPEATS))
        return next(filter(None, faults), "")
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def faults_of(convolutions: Iterable[Convolution], limit_s: float) -> Iterator[tuple[Convolution, str | None]]:
    """Yield convolutions with `fault_of`, the quick ones first; None for those that no time is left for.

    The time of a convolution is foreseen from the one before, so that a processor without bfloat16 instructions, which
    takes minutes for a large map, does not begin with it.
    """
    start = time.monotonic()
    foreseen_s = 0.0
    before = None
    for convolution in sorted(convolutions, key=lambda each: each.multiply_adds):
        if before is not None:
            foreseen_s *= convolution.multiply_adds / before.multiply_adds
        before = convolution
        began = time.monotonic()
        if began - start + foreseen_s > limit_s:
            yield convolution, None
            continue
        yield convolution, fault_of(convolution)
        took_s = time.monotonic() - began
        # The time of a small one is not that of its multiply-adds.
        foreseen_s = took_s if took_s > _MEASURABLE_S else 0.0


def _inputs(convolution: Convolution) -> list[Tensor]:
    """Return random values in bfloat16: the map in channels-last memory, the weights, and the bias if there is one."""
    shape = convolution.weight_shape
    # The outputs are then about one.
    spread = (math.prod(shape) / max(shape[:2])) ** -0.5
    values = [_maps(convolution.input_shape), spread * torch.randn(shape, generator=_generator())]
    if convolution.has_bias:
        values.append(torch.randn(convolution.out_channels, generator=_generator()))
    return [value.bfloat16() for value in values]


def _maps(shape: Sequence[int]) -> Tensor:
    """Return random maps (B, C, ...) in channels-last memory, the order of the networks."""
    batch, channels, *size = shape
    return torch.randn(batch, *size, channels, generator=_generator()).movedim(-1, 1)


def _generator() -> torch.Generator:
    # Its own, because a run that resumes draws as many numbers from PyTorch's as one that was never interrupted.
    return torch.Generator().manual_seed(0)


def _results(convolution: Convolution, inputs: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the output and, where they are used, the gradients, in float32."""
    x, weight, *bias = leaves = [value.to(dtype, copy=True) for value in inputs]
    _fill_free_memory(sum(value.nbytes for value in leaves))
    wanted: dict[str, Tensor] = {}
    if convolution.has_gradient:
        wanted = dict(zip(("input", "weights", "bias"), leaves, strict=False))
    if convolution.of_image:
        wanted.pop("input", None)
    for leaf in wanted.values():
        leaf.requires_grad_()
    # Folded networks are made and used where gradients are disabled.
    with torch.set_grad_enabled(convolution.has_gradient), torch.autocast("cpu", enabled=False):
        output = convolution.compute(x, weight, bias[0] if bias else None)
    slope = _maps(output.shape).to(dtype)
    gradients = torch.autograd.grad(output, list(wanted.values()), slope) if wanted else ()
    found = {f"gradient of its {name}": gradient for name, gradient in zip(wanted, gradients, strict=True)}
    return {name: value.detach().float() for name, value in {"output": output, **found}.items()}


def _fill_free_memory(num_bytes: int) -> None:
    """Write NaN to memory that the next allocations get, so that what is read unwritten shows."""
    sizes = (num_bytes, *(num_bytes // 2**power for power in range(_HALVINGS)))
    # All at once, so that no block is the memory of another.
    blocks = [torch.full((size,), _NAN_BYTE, dtype=torch.uint8) for size in sizes]
    blocks.clear()


def _difference(low: dict[str, Tensor], exact: dict[str, Tensor]) -> str:
    """Return which result is not finite or differs by more than rounding; empty if none is."""
    for name, expected in exact.items():
        found = low[name]
        if not found.isfinite().all():
            return f"{name} is not finite"
        allowed = _LARGEST_ERROR * (expected.abs() + expected.square().mean().sqrt())
        if ((found - expected).abs() > allowed).any():
            return f"{name} is wrong"
    return ""
