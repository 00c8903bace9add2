"""What a network is made of and what it costs; nothing is computed on voxels (PyTorch's meta device)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, lcm, prod, sqrt

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from renalnet.config import NetConfig, NetName
from renalnet.config.networks import NETWORKS
from renalnet.nets.blocks import PathLayer, ResidualBlock, SegmentationNet
from renalnet.nets.registry import builder_of
from renalnet.types import Shape


@dataclass(frozen=True)
class LayerRow:
    """One convolution, deconvolution or pooling, in the order of computation."""

    name: str
    """Where it sits in the network's state."""
    kind: str
    """The class of the layer."""
    kernel: int
    dilation: int
    channels: int
    """Channels that come out."""
    size: tuple[int, ...]
    """Voxels that come out, (z, y, x); slices folded into the batch are left out."""
    num_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class NetDescription:
    """A network at one input size, batch of one."""

    config: NetConfig
    shape: Shape
    layers: tuple[LayerRow, ...]
    num_parameters: int
    num_residual_blocks: int
    num_block_convolutions: int
    """Convolutions within residual blocks, without projections; 39 in the paper."""
    multiply_adds: int
    """Of convolutions and deconvolutions, one forward pass; twice that many floating-point operations."""
    training_memory_mb: float
    """Mebibytes of activations kept for the backward pass of one image in float32."""
    training_memory_bfloat16_mb: float
    """The same where convolutions compute in bfloat16; places of maxima and averaged features stay as they are."""
    receptive_field: Shape
    """Voxels (z, y, x) that one voxel's logits can depend on at most, pyramid pooling left out."""
    receptive_field_pooled: Shape
    """The same with pyramid pooling; no more than the input."""
    assumptions: tuple[str, ...]
    """What the paper does not say and this network therefore decides."""


def describe(config: NetConfig, shape: Shape) -> NetDescription:
    """Describe the network of `config` at inputs of `shape` (z, y, x); an unknown name raises ConfigError."""
    net = _meta_net(config)
    layers, kept_bytes = _trace(net, shape)
    _, kept_bfloat16_bytes = _trace(_meta_net(config).bfloat16(), shape)
    path = net.path()
    narrow = tuple(step for step in path if step.kind not in ("cells", "whole"))
    blocks = [module for module in net.modules() if isinstance(module, ResidualBlock)]
    return NetDescription(
        config=config,
        shape=shape,
        layers=tuple(layers),
        num_parameters=sum(parameter.numel() for parameter in net.parameters()),
        num_residual_blocks=len(blocks),
        num_block_convolutions=sum(isinstance(m, nn.Conv3d) for block in blocks for m in block.body.modules()),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        training_memory_mb=kept_bytes / 2**20,
        training_memory_bfloat16_mb=kept_bfloat16_bytes / 2**20,
        receptive_field=_field(config.name, narrow, shape),
        receptive_field_pooled=_field(config.name, path, shape),
        assumptions=net.assumptions(),
    )


def multiply_adds(config: NetConfig, shape: Shape) -> int:
    """Multiply-adds of one forward pass over one input of `shape` (z, y, x)."""
    with torch.no_grad():
        layers, _ = _trace(_meta_net(config), shape)
    return sum(layer.multiply_adds for layer in layers)


def equal_cost_width(name: NetName, reference: NetConfig, shape: Shape) -> int:
    """Return the even width, 4 or more, at which network `name` costs nearest to `reference` at inputs of `shape`.

    Costs are multiply-adds of a forward pass, so that a study gives its baselines what it gives 3D_FCN_PPM. A network
    that does not scale with its width keeps the width of `reference`.
    """
    if not NETWORKS[name].scales_with_width:
        return reference.width
    # All channels scale with the width, so a cost is a·width² + b·width, and two widths give a and b.
    at_4, at_8 = (multiply_adds(NetConfig(name=name, width=width), shape) for width in (4, 8))
    square = (at_8 - 2 * at_4) / 32
    linear = at_4 / 4 - 4 * square
    target = multiply_adds(reference, shape)
    exact = (sqrt(linear**2 + 4 * square * target) - linear) / (2 * square)
    low = max(4, int(exact) // 2 * 2)
    return min((low, low + 2), key=lambda width: abs(square * width**2 + linear * width - target))


def receptive_length(path: Sequence[PathLayer]) -> int | None:
    """Voxels along an axis that an output voxel depends on, the most over its positions; none: all."""
    if any(step.kind == "whole" for step in path):
        return None
    period = prod(step.stride for step in path) * lcm(*(step.size for step in path if step.kind == "cells"), 1)
    return max(_length_at(position, path) for position in range(period))


def _length_at(position: int, path: Sequence[PathLayer]) -> int:
    first = last = position
    for step in reversed(path):
        first, last = _inputs_of(first, last, step)
    return last - first + 1


def _inputs_of(first: int, last: int, step: PathLayer) -> tuple[int, int]:
    """The first and last input voxel that output voxels `first` to `last` of a step read."""
    size = step.size
    if step.kind == "window":
        start = step.stride * first - step.padding
        return start, step.stride * last - step.padding + step.dilation * (size - 1)
    if step.kind == "upsample":
        return first // size, last // size
    if step.kind == "interpolate":
        return (2 * first + 1 - size) // (2 * size), ceil((2 * last + 1 - size) / (2 * size))
    return first // size * size, last // size * size + size - 1


def _field(name: NetName, path: Sequence[PathLayer], shape: Shape) -> Shape:
    length = receptive_length(path)
    depth, height, width = (size if length is None else min(length, size) for size in shape)
    return (1 if NETWORKS[name].is_planar else depth), height, width


def _meta_net(config: NetConfig) -> SegmentationNet:
    with torch.device("meta"):
        return builder_of(config.name)(config)


def _trace(net: SegmentationNet, shape: Shape) -> tuple[list[LayerRow], int]:
    """The layers that one image passes, and the bytes of activations that its backward pass would need."""
    layers: list[LayerRow] = []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool2d, nn.MaxPool3d)):
            module.register_forward_hook(_recorder(name, layers))
    # Views share a storage, and PyTorch gives one object a storage: held here, its id stays its own.
    own = [parameter.untyped_storage() for parameter in net.parameters()]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        net.training_logits(torch.empty(1, 1, *shape, device="meta", dtype=net.head.weight.dtype))
    parameters = {id(storage) for storage in own}
    return layers, sum(storage.nbytes() for key, storage in kept.items() if key not in parameters)


def _recorder(
    name: str, layers: list[LayerRow]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, Tensor]], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], made: Tensor | tuple[Tensor, Tensor]) -> None:
        output = made[0] if isinstance(made, tuple) else made  # a pooling may give the places of the maxima too
        num_parameters = sum(parameter.numel() for parameter in module.parameters())
        uses = 0
        if isinstance(module, nn.ConvTranspose3d):
            uses = inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
            uses = output.numel() * module.weight[0].numel()
        layers.append(
            LayerRow(
                name=name,
                kind=type(module).__name__,
                kernel=_first(module, "kernel_size"),
                dilation=_first(module, "dilation"),
                channels=output.shape[1],
                size=tuple(output.shape[2:]),
                num_parameters=num_parameters,
                multiply_adds=uses,
            )
        )

    return record


def _first(module: nn.Module, attribute: str) -> int:
    value = getattr(module, attribute)
    return int(value[0] if isinstance(value, tuple) else value)
