"""Layers, receptive field and cost of a network. No voxels are computed, because PyTorch's meta device is used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, lcm, prod, sqrt

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from renalnet.config import LabelSet, NetConfig, NetName
from renalnet.config.networks import NETWORKS
from renalnet.nets.blocks import PathLayer, ResidualBlock, SegmentationNet
from renalnet.nets.build import builder_of
from renalnet.types import Shape


@dataclass(frozen=True)
class LayerRow:
    """One convolution, deconvolution or pooling."""

    name: str
    """Name of the module in the network."""
    kind: str
    """Name of the layer's class."""
    kernel: int
    dilation: int
    channels: int
    """Output channels."""
    size: tuple[int, ...]
    """Output voxels (z, y, x), or (y, x) if slices are folded into the batch."""
    num_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class NetDescription:
    """A network at one input size, for a batch of one."""

    config: NetConfig
    shape: Shape
    layers: tuple[LayerRow, ...]
    """The layers in the order of computation."""
    num_parameters: int
    num_residual_blocks: int
    num_block_convolutions: int
    """Convolutions within residual blocks, without projections; 39 in the paper."""
    multiply_adds: int
    """Multiply-adds of convolutions and deconvolutions in one forward pass, each two floating-point operations."""
    training_memory_mb: float
    """Mebibytes of activations kept for the backward pass of one image in float32."""
    training_memory_bfloat16_mb: float
    """The same with convolutions in bfloat16. Indices of maxima and averaged features keep their dtypes."""
    receptive_field: Shape
    """Largest number of voxels (z, y, x) that the logits of a voxel depend on, without pyramid pooling."""
    receptive_field_pooled: Shape
    """The same with pyramid pooling, at most the input."""
    assumptions: tuple[str, ...]
    """What the paper does not say and the network decides, one sentence each."""


def describe(config: NetConfig, labels: LabelSet, shape: Shape) -> NetDescription:
    """Describe the network of `config` with `labels` for inputs of `shape` (z, y, x).

    Raises ConfigError for an unknown name.
    """
    net = meta_net(config, labels)
    layers, kept_bytes = _trace(net, shape)
    # Another network, because the hooks of the first trace stay on `net`.
    _, kept_bfloat16_bytes = _trace(meta_net(config, labels).bfloat16(), shape)
    path = net.path()
    narrow = tuple(layer for layer in path if layer.kind not in ("cells", "whole"))
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


def multiply_adds(config: NetConfig, labels: LabelSet, shape: Shape) -> int:
    """Return the multiply-adds of one forward pass over one input of `shape` (z, y, x)."""
    with torch.no_grad():
        layers, _ = _trace(meta_net(config, labels), shape)
    return sum(layer.multiply_adds for layer in layers)


def equal_cost_width(name: NetName, reference: NetConfig, labels: LabelSet, shape: Shape) -> int:
    """Return the even width, 4 or more, at which network `name` costs nearest to `reference` at inputs of `shape`.

    Costs are multiply-adds of a forward pass, so that a study gives its baselines what it gives 3D_FCN_PPM. A network
    that does not scale with its width keeps the width of `reference`.
    """
    if not NETWORKS[name].scales_with_width:
        return reference.width
    # All channels scale with the width, so that the cost is a·width² + b·width, and two widths give a and b.
    at_4 = multiply_adds(NetConfig(name=name, width=4), labels, shape)
    at_8 = multiply_adds(NetConfig(name=name, width=8), labels, shape)
    square = (at_8 - 2 * at_4) / 32
    linear = at_4 / 4 - 4 * square
    target = multiply_adds(reference, labels, shape)
    exact = (sqrt(linear**2 + 4 * square * target) - linear) / (2 * square)
    # Even, because residual blocks and the 2D PSPNet halve the width. 4 is the least width of a `NetConfig`.
    low = max(4, int(exact) // 2 * 2)
    return min((low, low + 2), key=lambda width: abs(square * width**2 + linear * width - target))


def receptive_length(path: Sequence[PathLayer]) -> int | None:
    """Return the largest number of voxels along an axis that an output voxel depends on; None for the whole axis."""
    if any(layer.kind == "whole" for layer in path):
        return None
    # The length depends on where a voxel lies in the strides and cells, and repeats after this many voxels.
    period = prod(layer.stride for layer in path) * lcm(*(layer.size for layer in path if layer.kind == "cells"), 1)
    return max(_length_at(position, path) for position in range(period))


def _length_at(position: int, path: Sequence[PathLayer]) -> int:
    first = last = position
    for layer in reversed(path):
        first, last = _inputs_of(first, last, layer)
    return last - first + 1


def _inputs_of(first: int, last: int, layer: PathLayer) -> tuple[int, int]:
    """Return the first and the last input voxel that output voxels `first` to `last` of a layer depend on."""
    size = layer.size
    if layer.kind == "window":
        start = layer.stride * first - layer.padding
        return start, layer.stride * last - layer.padding + layer.dilation * (size - 1)
    if layer.kind == "upsample":
        return first // size, last // size
    if layer.kind == "interpolate":
        # Voxel i is at (i + ½) / size − ½ of the smaller map, as PyTorch interpolates without aligned corners.
        return (2 * first + 1 - size) // (2 * size), ceil((2 * last + 1 - size) / (2 * size))
    return first // size * size, last // size * size + size - 1


def _field(name: NetName, path: Sequence[PathLayer], shape: Shape) -> Shape:
    length = receptive_length(path)
    depth, height, width = (size if length is None else min(length, size) for size in shape)
    return (1 if NETWORKS[name].is_planar else depth), height, width


def meta_net(config: NetConfig, labels: LabelSet) -> SegmentationNet:
    """Return the network of `config` without values of its weights, which have shapes only."""
    return _meta_net(config, labels.num_classes)


def unlike_weights(config: NetConfig, num_classes: int, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the weights that are not those of a network in name or shape; empty where all are.

    Nothing is allocated, so that a configuration from elsewhere may state a network of any size.
    """
    stated = _meta_net(config, num_classes).state_dict()
    return [name for name in {**stated, **weights} if _shape(stated, name) != _shape(weights, name)]


def _meta_net(config: NetConfig, num_classes: int) -> SegmentationNet:
    with torch.device("meta"):
        return builder_of(config.name)(config, num_classes)


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _trace(net: SegmentationNet, shape: Shape) -> tuple[list[LayerRow], int]:
    """Return the layers of a forward pass of one image, and the bytes of activations that its backward pass needs."""
    layers: list[LayerRow] = []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool2d, nn.MaxPool3d)):
            module.register_forward_hook(_recorder(name, layers))
    # Views share a storage, and PyTorch has one object per storage. Holding it keeps its id from being used again.
    own = [parameter.untyped_storage() for parameter in net.parameters()]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        net.training_logits(torch.empty(1, 1, *shape, device="meta", dtype=net.head.weight.dtype))
    # Convolutions also keep their weights, which are no activations.
    parameters = {id(storage) for storage in own}
    return layers, sum(storage.nbytes() for key, storage in kept.items() if key not in parameters)


def _recorder(
    name: str, layers: list[LayerRow]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, Tensor]], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], made: Tensor | tuple[Tensor, Tensor]) -> None:
        output = made[0] if isinstance(made, tuple) else made  # pooling can also return the indices of the maxima
        layers.append(
            LayerRow(
                name=name,
                kind=type(module).__name__,
                kernel=_first(module, "kernel_size"),
                dilation=_first(module, "dilation"),
                channels=output.shape[1],
                size=tuple(output.shape[2:]),
                num_parameters=sum(parameter.numel() for parameter in module.parameters()),
                multiply_adds=_uses_of_weights(module, inputs[0], output),
            )
        )

    return record


def _uses_of_weights(module: nn.Module, image: Tensor, output: Tensor) -> int:
    """Return how often the weights of a layer are multiplied; a pooling has none."""
    if isinstance(module, nn.ConvTranspose3d):
        # Transposed convolutions store weights as (in, out, …), others as (out, in, …).
        return image.numel() * module.weight[0].numel()
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        return output.numel() * module.weight[0].numel()
    return 0


def _first(module: nn.Module, attribute: str) -> int:
    value = getattr(module, attribute)
    return int(value[0] if isinstance(value, tuple) else value)
