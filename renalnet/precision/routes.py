"""Layers that compute in float32 where this processor or PyTorch gets their convolution wrong in bfloat16."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import nn

from renalnet.nets import SegmentationNet
from renalnet.nets.blocks import ExactConvolution, compute_in_float32
from renalnet.precision.convolutions import Convolution, convolutions_of
from renalnet.precision.verdicts import known_verdicts
from renalnet.runtime.device import Device
from renalnet.runtime.log import get_logger

_checked: Final[WeakKeyDictionary[nn.Module, set[tuple[int, ...]]]] = WeakKeyDictionary()
"""Shapes for which the convolutions of a network are known."""
_log = get_logger(__name__)


def route_around_faults(net: SegmentationNet, shape: Iterable[int], device: Device, *, is_training: bool) -> None:
    """Let the layers of `net` that are wrong in bfloat16 for images of `shape` compute in float32, and log them.

    Each distinct convolution is computed once on random values and compared with float32, forward and, in training,
    backward. The results are kept in the user's cache folder for each kind of processor. Nothing is done on a GPU, nor
    in float32, nor for a shape that was seen before.

    Args:
        net: a network on the device, as it is trained, or folded. Weights keep their names.
        shape: shape of the images, (B, 1, D, H, W).
        device: device and number format of the network.
        is_training: whether gradients are computed.
    """
    size = tuple(shape)
    if device.torch_device.type != "cpu" or not device.use_bfloat16 or size in _checked.get(net, ()):
        return
    _checked.setdefault(net, set()).add(size)
    layers = convolutions_of(net, size, is_training=is_training)
    faults = known_verdicts().of(layers)
    _route(net, layers, faults)
    num_unknown = sum(fault is None for fault in faults.values())
    if num_unknown:
        _log.warning(
            "%d of %d kinds of convolutions took too long to check in bfloat16 on this processor; train.precision="
            "float32 is quicker here, and needs no check",
            num_unknown,
            len(faults),
        )


def layers_in_float32(net: nn.Module) -> Iterator[str]:
    """Yield the names of the layers that compute in float32 by `route_around_faults`."""
    yield from (name for name, layer in net.named_modules() if isinstance(layer, ExactConvolution))


def _route(
    net: SegmentationNet, layers: Mapping[Convolution, tuple[str, ...]], faults: Mapping[Convolution, str | None]
) -> None:
    wrong = {name: fault for kind, names in layers.items() for name in names if (fault := faults[kind])}
    for name in wrong:
        compute_in_float32(net.get_submodule(name))
    if wrong:
        _log.warning(
            "computed in float32, because PyTorch %s gets them wrong in bfloat16 on this processor: %s",
            torch.__version__,
            ", ".join(f"{name} ({fault})" for name, fault in wrong.items()),
        )
