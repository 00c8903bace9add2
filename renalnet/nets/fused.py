"""BatchNorm, a sum and a ReLU as one operation, which on a CPU takes a fraction of the time of PyTorch's three.

Layers with few channels spend their time on passes over memory, not on convolutions. On a CPU, training uses
`fused.cpp` for features in channels-last memory. All other cases, and installations without the compiled part, use
PyTorch's own operations, which give the same numbers up to rounding.
"""

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from renalnet.runtime.log import get_logger

BatchNorm: TypeAlias = nn.BatchNorm2d | nn.BatchNorm3d
_MODULE: Final = "renalnet.nets._fused"
_SUFFIXES: Final = {torch.bfloat16: "bfloat16", torch.float32: "float32"}
_LAYOUTS: Final = {4: torch.channels_last, 5: torch.channels_last_3d}
_VERSION: Final = 1
"""Version of the interface of `fused.cpp`. A library of another version is outdated and counts as missing."""
_log = get_logger(__name__)


def normalise(x: Tensor, norm: BatchNorm, residual: Tensor | None = None, *, rectify: bool = True) -> Tensor:
    """Return ReLU(norm(x) + residual); the sum and the ReLU are optional.

    Args:
        x: (B, C, …). Its memory may be overwritten in evaluation.
        norm: in training it takes its statistics from `x` and updates its running statistics, as in PyTorch.
        residual: a tensor with the shape and dtype of `x`, or None.
        rectify: whether the ReLU is applied.
    """
    if norm.training and _is_usual(norm, x) and _is_fusable(x, residual):
        y: Tensor = _NormAct.apply(x, norm.weight, norm.bias, residual, norm, rectify)  # type: ignore[no-untyped-call]
        return y
    # Without values, only shapes are asked for. PyTorch's BatchNorm would import its compiler, which takes seconds.
    y = x if x.is_meta and not torch.is_grad_enabled() else norm(x)
    if residual is not None:
        y = y + residual
    # In place also in training: the backward passes of the norm and of the sum do not need their result.
    return F.relu(y, inplace=True) if rectify else y


def shift_and_rectify(x: Tensor, shift: Tensor, residual: Tensor | None = None, *, rectify: bool = True) -> Tensor:
    """Return ReLU(x + shift + residual) in the memory of `x`, for evaluation.

    Args:
        x: (B, C, …), overwritten.
        shift: (C,), float32.
        residual: a tensor with the shape and dtype of `x`, or None.
        rectify: whether the ReLU is applied.
    """
    if _is_fusable(x, residual):
        # The scale is one, because the folded weights include the norm's.
        _call("activate", x, x, residual, torch.ones_like(shift), shift, int(rectify), x)
        return x
    x += shift.to(x.dtype).view(-1, *[1] * (x.ndim - 2))
    if residual is not None:
        x += residual
    return F.relu(x, inplace=True) if rectify else x


@cache
def is_compiled() -> bool:
    """Whether this installation has the compiled part. If not, a warning is logged once."""
    if _library() is not None:
        return True
    _log.warning(
        "renalnet.nets._fused: not compiled, so that training on a CPU uses PyTorch's BatchNorm and takes about 1.5 "
        "times as long; install a C++ compiler, then install renalnet again"
    )
    return False


@cache
def _library() -> ctypes.CDLL | None:
    libraries = map(ctypes.CDLL, _files())
    return next((library for library in libraries if _version_of(library) == _VERSION), None)


def _files() -> Iterator[str]:
    """Yield the paths of compiled libraries: beside this file, then in installed packages.

    A Ray job runs in a copy of the sources, which has no compiled part; the installed package has it.
    """
    spec = find_spec(_MODULE)
    if spec and spec.origin:
        yield spec.origin
    package, name = _MODULE.rsplit(".", 1)
    for entry in sys.path:
        yield from map(str, Path(entry, *package.split(".")).glob(f"{name}.*.so"))


def _version_of(library: ctypes.CDLL) -> int:
    # The first compiled parts had no version.
    return int(library.version()) if hasattr(library, "version") else 0


def _is_usual(norm: BatchNorm, x: Tensor) -> bool:
    """Whether `norm` has PyTorch's default options and more than one value per channel, which PyTorch requires."""
    return norm.affine and norm.track_running_stats and norm.momentum is not None and x.numel() > x.shape[1]


def _is_fusable(x: Tensor, residual: Tensor | None) -> bool:
    # While PyTorch's compiler traces, tensors have no memory whose address the library could get.
    if x.device.type != "cpu" or x.dtype not in _SUFFIXES or torch.compiler.is_compiling():
        return False
    layout = _LAYOUTS.get(x.ndim)
    if layout is None or not x.is_contiguous(memory_format=layout):
        return False
    # `is_compiled` is last, so that it warns only where the library would be used.
    return (residual is None or _is_alike(residual, x, layout)) and is_compiled()


def _is_alike(x: Tensor, other: Tensor, layout: torch.memory_format) -> bool:
    return x.dtype == other.dtype and x.shape == other.shape and x.is_contiguous(memory_format=layout)


class _NormAct(torch.autograd.Function):
    """BatchNorm in training, with the sum and the ReLU."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, norm: BatchNorm, rectify: bool
    ) -> Tensor:
        mean, variance = _statistics(x)
        _remember(norm, mean, variance, x.numel() // x.shape[1])
        # In float64, because bias and mean · scale may nearly cancel.
        scale = weight.double() * (variance + norm.eps).rsqrt()
        shift = bias.double() - mean * scale
        y = torch.empty_like(x)
        _call("activate", x, x, residual, scale.float(), shift.float(), int(rectify), y)
        # Autograd notices when a tensor saved this way is overwritten before the backward pass.
        ctx.save_for_backward(x, y if rectify else None, weight, mean, variance)
        ctx.eps = norm.eps
        ctx.has_residual = residual is not None
        return y

    @staticmethod
    # The library's results have no graph, so that a second derivative is refused instead of wrong.
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, mean, variance = ctx.saved_tensors
        # The gradient may come expanded or in another memory order, as from a sum.
        grad_y = _as(x, grad_y)
        count = x.numel() // x.shape[1]
        middle = mean.float()
        total = torch.empty_like(mean)
        product = torch.empty_like(mean)
        _call("gradient_sums", x, grad_y, y, x, middle, after=(total, product))
        inverse_sd = (variance + ctx.eps).rsqrt()
        # The gradient of Ioffe and Szegedy (2015) as a linear function of `grad_y` and x − mean, by channel.
        of_grad = weight.double() * inverse_sd
        of_x = -of_grad * inverse_sd.square() * product / count
        constant = -of_grad * total / count
        grad_x = torch.empty_like(x)
        # Without a ReLU, the gradient of the residual is the gradient of y itself.
        grad_residual = torch.empty_like(x) if ctx.has_residual and y is not None else None
        values = of_grad.float(), of_x.float(), constant.float()
        _call("backward", x, grad_y, y, x, middle, *values, grad_x, grad_residual)
        if ctx.has_residual and y is None:
            grad_residual = grad_y
        return grad_x, (product * inverse_sd).float(), total.float(), grad_residual, None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, (C,) float64."""
    mean, variance = torch.empty(2, x.shape[1], dtype=torch.float64)
    _call("statistics", x, x, after=(mean, variance))
    return mean, variance


@torch.no_grad()
def _remember(norm: BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics for evaluation. Their variance is unbiased, as in PyTorch."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_((variance * (count / max(count - 1, 1))).to(norm.running_var), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


def _as(x: Tensor, other: Tensor) -> Tensor:
    """Return `other` in the dtype and the memory layout of `x`."""
    return other.to(x.dtype).contiguous(memory_format=_LAYOUTS[x.ndim])


def _call(name: str, like: Tensor, *values: Tensor | int | None, after: tuple[Tensor, ...] = ()) -> None:
    """Call a function of the library with `values`, the sizes of `like`, and `after`."""
    channels = like.shape[1]
    # ctypes passes a plain integer as a 32-bit one. The library's own default could be another number of threads.
    sizes = ctypes.c_int64(like.numel() // channels), ctypes.c_int64(channels), torch.get_num_threads()
    function = getattr(_library(), f"{name}_{_SUFFIXES[like.dtype]}")
    # Only addresses are passed. `values` and `after` keep their tensors alive until the call returns.
    function(*map(_argument, values), *sizes, *map(_argument, after))


def _argument(value: Tensor | int | None) -> Any:
    # None becomes a null pointer, which stands for no residual, no ReLU or no gradient.
    return ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else value
