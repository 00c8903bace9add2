"""The convolutions that a network computes for inputs of a shape, found without computing them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from renalnet.nets import SegmentationNet

_PLAIN: Final = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED: Final = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_ARGUMENTS: Final = {
    "conv2d": _PLAIN,
    "conv3d": _PLAIN,
    "conv_transpose2d": _TRANSPOSED,
    "conv_transpose3d": _TRANSPOSED,
}
"""By the name of a convolution in `torch.nn.functional`, the names of its arguments in their order."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with everything that decides which code of PyTorch computes it, except for the number format."""

    kind: str
    """Its name in `torch.nn.functional`."""
    input_shape: tuple[int, ...]
    """(B, in, D, H, W), or (B, in, H, W)."""
    weight_shape: tuple[int, ...]
    has_bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...]
    """Voxels added at the end of each axis of the output; only a transposed convolution has other numbers than 0."""
    has_gradient: bool
    """Whether the gradients are computed, too."""

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution of `x` in its number format."""
        function: Callable[..., Tensor] = getattr(F, self.kind)
        options: dict[str, Any] = {name: getattr(self, name) for name in _ARGUMENTS[self.kind][3:]}
        return function(x, weight, bias, **options)

    @property
    def is_transposed(self) -> bool:
        """Whether the weights are in the order (in, out, …), not (out, in, …)."""
        return _ARGUMENTS[self.kind] is _TRANSPOSED

    @property
    def of_image(self) -> bool:
        """Whether the input has one channel, as the image, which needs no gradient."""
        return self.input_shape[1] == 1

    @property
    def out_channels(self) -> int:
        """Number of channels of the output."""
        return self.weight_shape[1] * self.groups if self.is_transposed else self.weight_shape[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(B, out, D, H, W), or (B, out, H, W)."""
        lengths = _transposed_length if self.is_transposed else _length
        axes = zip(
            self.input_shape[2:],
            self.weight_shape[2:],
            self.stride,
            self.padding,
            self.dilation,
            self.output_padding,
            strict=True,
        )
        return self.input_shape[0], self.out_channels, *(lengths(*axis) for axis in axes)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass."""
        voxels = self.input_shape if self.is_transposed else self.output_shape
        return voxels[0] * math.prod(voxels[2:]) * math.prod(self.weight_shape)

    def __str__(self) -> str:
        sizes = [f"{name} {'×'.join(map(str, value))}" for name, value in self._sizes().items()]
        ends = [f"groups {self.groups}", "with bias" if self.has_bias else "without bias"]
        return ", ".join([self.kind, *sizes, *ends, "with gradients" if self.has_gradient else "without gradients"])

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        return {
            "input": self.input_shape,
            "weights": self.weight_shape,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "output padding": self.output_padding,
        }


def _length(size: int, kernel: int, stride: int, padding: int, dilation: int, _: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _transposed_length(size: int, kernel: int, stride: int, padding: int, dilation: int, more: int) -> int:
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + more + 1


def convolutions_of(
    net: SegmentationNet, shape: Iterable[int], *, is_training: bool
) -> Mapping[Convolution, tuple[str, ...]]:
    """Return each distinct convolution in bfloat16 of `net` for images of `shape`, with the names of its layers.

    Args:
        net: a network on the processor, as it is trained, or folded. It is not changed.
        shape: shape of the images, (B, 1, D, H, W).
        is_training: whether the logits for the loss and their gradients are computed, or the logits alone.
    """
    copy = deepcopy(net).requires_grad_(False).train(is_training)
    image = torch.zeros(*shape)
    recorder = _Recorder(copy)
    # Layers choose their operations by whether gradients are enabled.
    with torch.set_grad_enabled(is_training), torch.autocast("cpu", torch.bfloat16), recorder:
        if is_training:
            copy.training_logits(image)
        else:
            copy(image)
    return {convolution: tuple(dict.fromkeys(names)) for convolution, names in recorder.found.items()}


class _Recorder(TorchFunctionMode):
    """Records the convolutions in bfloat16 of the layers of a network. Results of matrix products are zeros.

    The other operations are computed, because on PyTorch's meta device, they would import its compiler, which takes
    seconds.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        layers = [(name, getattr(layer, "weight", None)) for name, layer in net.named_modules()]
        self._names = {id(weight): name for name, weight in layers if weight is not None}
        self.found: dict[Convolution, list[str]] = defaultdict(list)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        named = dict(kwargs or {})
        if name in _ARGUMENTS:
            return self._recorded(name, dict(zip(_ARGUMENTS[name], args, strict=False)) | named)
        if name == "linear":
            return args[0].new_zeros(*args[0].shape[:-1], len(args[1]), dtype=_dtype(args[0]))
        return func(*args, **named)

    def _recorded(self, kind: str, named: Mapping[str, Any]) -> Tensor:
        x: Tensor = named["input"]
        convolution = _convolution(kind, named)
        layer = self._names.get(id(named["weight"]))
        # A tensor that is no layer's weight cannot be treated in another way.
        if layer is not None and _dtype(x) == torch.bfloat16:
            self.found[convolution].append(layer)
        batch, channels, *size = convolution.output_shape
        return x.new_zeros(batch, *size, channels, dtype=_dtype(x)).movedim(-1, 1)


def _dtype(x: Tensor) -> torch.dtype:
    """Return the number format in which an operation under autocast computes with `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _convolution(kind: str, named: Mapping[str, Any]) -> Convolution:
    weight_shape = tuple(named["weight"].shape)
    num_axes = len(weight_shape) - 2
    dilation = _per_axis(named.get("dilation", 1), num_axes)
    same = tuple(step * (size - 1) // 2 for step, size in zip(dilation, weight_shape[2:], strict=True))
    stated = named.get("padding", 0)
    padding = same if stated == "same" else 0 if stated == "valid" else stated
    return Convolution(
        kind=kind,
        input_shape=tuple(named["input"].shape),
        weight_shape=weight_shape,
        has_bias=named.get("bias") is not None,
        stride=_per_axis(named.get("stride", 1), num_axes),
        padding=_per_axis(padding, num_axes),
        dilation=dilation,
        groups=named.get("groups", 1),
        output_padding=_per_axis(named.get("output_padding", 0), num_axes),
        has_gradient=torch.is_grad_enabled(),
    )


def _per_axis(value: int | Iterable[int], num_axes: int) -> tuple[int, ...]:
    return (value,) * num_axes if isinstance(value, int) else tuple(value)
