"""Whether the networks' operations are right on this device: their errors against float64, and a run that resumes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.config import KIDNEY_TUMOR, NetConfig, OptimConfig, PatchConfig, PrepareConfig, StitchConfig, TrainConfig
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import Store
from renalnet.data.store.writer import write_store
from renalnet.nets import build_net
from renalnet.nets.blocks import Deconvolution, PointwiseConvolution
from renalnet.nets.folded import FoldedPool, folded
from renalnet.nets.fused import normalise, shift_and_rectify
from renalnet.nets.ppm import average_cells
from renalnet.runtime.device import Device, Net
from renalnet.train.run import StepReport, TrainingRun
from renalnet.types import Shape
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import RoiPainter
from study.bench.measuring.table import Row

BOUNDS: Final = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Largest error of an operation by number format, as a share of the largest value of the result."""
_CHANNELS: Final = 16
_NUM_STEPS: Final = 6
_LAYOUTS: Final = {"channels-last": torch.channels_last_3d, "default order": torch.contiguous_format}
Operation: TypeAlias = Callable[[Tensor], Tensor]
"""From features (B, C, D, H, W) to a result in the same number format."""


@dataclass(frozen=True)
class Check:
    """An operation, and the same in float64 by PyTorch's plain functions."""

    name: str
    ours: Operation
    reference: Operation


def rows(size: Size, folder: Path, device: Device) -> Iterator[Row]:
    """Yield the errors of all operations, the result of a run that resumes, and the number of checks that fail."""
    # TF32 would hide the errors of float32.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        errors = [*_errors(size.network_shape, device)]
    yield from errors
    resumed = Row(
        "gpu", "weights that differ after a run resumes", "", resume_difference(size, folder), note="0 is right"
    )
    yield resumed
    failed = [row.what for row in errors if not is_right(row)] + ([resumed.what] if resumed.ours else [])
    yield Row("gpu", "checks that fail", "", len(failed), note="; ".join(failed) or f"of {len(errors) + 1}")


def is_right(row: Row) -> bool:
    """Return whether the error of an operation is within the bound of its number format. NaN is not."""
    return row.ours is not None and row.theirs is not None and row.ours <= row.theirs


def _errors(shape: Shape, device: Device) -> Iterator[Row]:
    for dtype in dict.fromkeys([torch.float32, device.dtype]):
        for layout in _LAYOUTS:
            x = features(shape)
            for check in checks():
                placed = x.to(device.torch_device, dtype).contiguous(memory_format=_LAYOUTS[layout])
                what = f"{check.name}, {str(dtype).removeprefix('torch.')}, {layout}"
                yield Row("gpu", what, "share", error_of(check, placed), "bound", BOUNDS[dtype], "less")
    yield _network_error(shape, device)


def features(shape: Shape) -> Tensor:
    """Return features (1, C, D, H, W) in float64, the same at each call. The last voxel of each axis is left out."""
    generator = torch.Generator().manual_seed(0)
    # Odd sizes, so that pooling leaves a rest.
    return torch.randn(1, _CHANNELS, *(length - 1 for length in shape), generator=generator, dtype=torch.float64)


def error_of(check: Check, x: Tensor) -> float:
    """Return the largest error of an operation and of its gradient, as a share of the largest value of each.

    Args:
        check: the operation.
        x: features (B, C, D, H, W) on the device, in the number format and layout to check.
    """
    mine = _with_gradient(check.ours, x)
    exact = _with_gradient(check.reference, x.cpu().double().contiguous())
    # By PyTorch, whose maximum of NaN and a number is NaN.
    return float(torch.tensor(list(map(relative_error, mine, exact))).max())


def _with_gradient(operation: Operation, x: Tensor) -> tuple[Tensor, ...]:
    """Return the result, and the gradient of its weighted sum where there is one."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = operation(leaf)
    if not y.requires_grad:
        return (y,)
    # Small integers, which all formats hold. Not constant, because BatchNorm's gradient of a constant is zero.
    weights = (torch.arange(y.numel(), dtype=torch.float64) % 7 - 3).view(y.shape)
    (gradient,) = torch.autograd.grad(y, leaf, weights.to(y.device, y.dtype))
    return y, gradient


def relative_error(mine: Tensor, exact: Tensor) -> float:
    """Return the largest difference from `exact`, divided by the largest absolute value of `exact`."""
    difference = mine.detach().cpu().double() - exact.detach()
    return float(difference.abs().max() / exact.detach().abs().max())


def checks() -> list[Check]:
    """Return the operations of the networks that are not PyTorch's own, or not computed in PyTorch's own way."""
    norm = nn.BatchNorm3d(_CHANNELS)
    shift = torch.linspace(-1, 1, _CHANNELS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pointwise = PointwiseConvolution(_CHANNELS, _CHANNELS)
        enlarge = [Deconvolution(_CHANNELS, _CHANNELS, kernel) for kernel in (2, 4)]
    return [
        Check(
            "BatchNorm, sum and ReLU",
            lambda x: normalise(x, _norm_like(norm, x), x),
            lambda x: F.relu(_like(norm, x)(x) + x),
        ),
        Check(
            "shift, sum and ReLU",
            _without_gradient(lambda x: shift_and_rectify(x.clone(), shift.to(x.device), x)),
            _without_gradient(lambda x: F.relu(2 * x + shift.double().view(-1, 1, 1, 1))),
        ),
        _pointwise_check(pointwise),
        *map(_deconvolution_check, enlarge),
        Check(
            "mean over cells of 4",
            _without_gradient(lambda x: average_cells(x.float(), 4)),
            _without_gradient(lambda x: F.avg_pool3d(x, 4, ceil_mode=True, count_include_pad=False)),
        ),
        Check(
            "maximum over cells of 2",
            _without_gradient(FoldedPool()),
            _without_gradient(lambda x: F.max_pool3d(x, 2)),
        ),
    ]


def _like(module: Net, x: Tensor) -> Net:
    """Return a copy of a module on the device of `x`, in its number format."""
    return deepcopy(module).to(x.device, x.dtype)


def _norm_like(norm: nn.BatchNorm3d, x: Tensor) -> nn.BatchNorm3d:
    """Return a copy of a norm on the device of `x`. Its weights stay in float32, as in training."""
    return deepcopy(norm).to(x.device)


def _pointwise_check(layer: PointwiseConvolution) -> Check:
    weight, bias = _in_float64(layer)
    return Check("1×1×1 convolution", lambda x: _like(layer, x)(x), lambda x: F.conv3d(x, weight, bias))


def _deconvolution_check(layer: Deconvolution) -> Check:
    weight, bias = _in_float64(layer)
    return Check(
        f"deconvolution of {layer.kernel_size[0]}",
        lambda x: _like(layer, x)(x),
        lambda x: F.conv_transpose3d(x, weight, bias, stride=layer.kernel_size[0]),
    )


def _in_float64(layer: PointwiseConvolution | Deconvolution) -> tuple[Tensor, Tensor]:
    """Return weight and bias without their graph."""
    weight, bias = (layer.get_parameter(name).detach().double() for name in ("weight", "bias"))
    return weight, bias


def _without_gradient(operation: Operation) -> Operation:
    return torch.no_grad()(operation)


@torch.no_grad()
def _network_error(shape: Shape, device: Device) -> Row:
    """Return the row about the folded 3D_FCN_PPM, as inference uses it, against the unfolded one in float64."""
    net = build_net(NetConfig(), KIDNEY_TUMOR)
    image = features(shape)[:, :1].float()
    net(image)  # statistics that are not the first ones
    net.eval()
    exact = deepcopy(net).double()(image.double())
    fast = folded(device.place(net), device.dtype)
    with device.autocast():
        error = relative_error(fast(device.tensor(image)), exact)
    what = f"folded network, {str(device.dtype).removeprefix('torch.')}"
    return Row("gpu", what, "share", error, "bound", BOUNDS[device.dtype], "less")


def resume_difference(size: Size, folder: Path) -> int:
    """Return the number of weights that differ between a run and the same run that was stopped and resumed."""
    store = _store(size, folder)
    whole = _weights(_trained(size, store, folder / "whole"))
    _trained(size, store, folder / "resumed", max_steps=_NUM_STEPS // 3)
    resumed = _weights(_trained(size, store, folder / "resumed"))
    return sum(int((one != other).sum()) for one, other in zip(whole, resumed, strict=True))


def _weights(run: TrainingRun) -> list[Tensor]:
    assert run.is_finished, "a run that was stopped has other weights"
    return [value.cpu() for value in run.net.state_dict().values()]


def _store(size: Size, folder: Path) -> Store:
    *others, last = RoiPainter(size.network_shape).rois(3)
    return write_store(
        folder / "store", iter([*others, replace(last, split="validation")]), PrepareConfig(localise="cut")
    )


def _trained(size: Size, store: Store, folder: Path, max_steps: int = _NUM_STEPS) -> TrainingRun:
    """Begin or resume the run of a folder, and stop it after `max_steps` unless it ends before."""
    shape = size.network_shape
    config = TrainConfig(
        optim=OptimConfig(batch_size=size.network_batch),
        patch=PatchConfig(shape=shape),
        stitch=StitchConfig(tile=shape, stride=shape),
        epochs=1,
        steps_per_epoch=_NUM_STEPS,
    )
    made: list[StepReport] = []
    with closing(load_cohort(store, config.loader)) as cohort:
        run = TrainingRun(
            config,
            cohort,
            str(folder),
            should_stop=lambda: max_steps <= len(made) < _NUM_STEPS,
            on_step=made.append,
        )
        for _ in run:
            pass
    return run
