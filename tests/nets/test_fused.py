"""The compiled operation against PyTorch's own operations, and both against float64."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from renalnet.nets import fused
from renalnet.nets.fused import is_compiled, normalise, shift_and_rectify

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
DTYPES = (torch.float32, torch.bfloat16)
ROUNDING = {torch.float32: 2**-18, torch.bfloat16: 2**-9}
"""One rounding of a bfloat16; 64 of a float32, as a sum of hundreds of them may have where its terms cancel."""
needs_compiled = pytest.mark.skipif(not is_compiled(), reason="this installation has no compiled part")


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return normal numbers, channels-last in memory."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).contiguous(memory_format=LAYOUTS[len(shape)])


def norm_of(channels: int, ndim: int = 5) -> Any:
    """Return a BatchNorm whose weights, biases and running statistics are not the initial ones."""
    norm = (nn.BatchNorm2d if ndim == 4 else nn.BatchNorm3d)(channels)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.5 * torch.randn(channels, generator=generator))
        norm.bias.copy_(torch.randn(channels, generator=generator))
        norm.running_mean.copy_(torch.randn(channels, generator=generator))
    return norm


def plain(x: Tensor, norm: Any, residual: Tensor | None = None, *, rectify: bool = True) -> Tensor:
    """Compute `normalise` by PyTorch's own operations."""
    y: Tensor = norm(x)
    if residual is not None:
        y = y + residual
    return F.relu(y) if rectify else y


@dataclass
class Step:
    """All results of a training step."""

    y: Tensor
    x: Tensor
    weight: Tensor
    bias: Tensor
    residual: Tensor | None
    mean: Tensor
    variance: Tensor
    batches: int


def step_of(
    function: Any,
    x: Tensor,
    residual: Tensor | None,
    grad_y: Tensor,
    rectify: bool = True,
    dtype: torch.dtype | None = None,
) -> Step:
    """Run `function` forward and backward, in `dtype` if it is given."""
    norm = norm_of(x.shape[1], x.ndim)
    if dtype is not None:
        x, grad_y, norm = x.to(dtype), grad_y.to(dtype), norm.to(dtype)
        residual = None if residual is None else residual.to(dtype)
    x = x.detach().requires_grad_()
    residual = None if residual is None else residual.detach().requires_grad_()
    y = function(x, norm, residual, rectify=rectify)
    y.backward(grad_y)
    grads = x.grad, norm.weight.grad, norm.bias.grad, None if residual is None else residual.grad
    return Step(y.detach(), *grads, norm.running_mean, norm.running_var, int(norm.num_batches_tracked))


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def is_fused(y: Tensor) -> bool:
    return y.grad_fn is not None and "NormAct" in y.grad_fn.name()


def assert_as_exact_as_pytorch(x: Tensor, residual: Tensor | None, grad_y: Tensor, rectify: bool) -> None:
    """Assert that no error against float64 exceeds 1.25 times PyTorch's, or `ROUNDING`, relative to its tensor.

    The factor is needed because the errors of two summations of the same numbers differ by chance. `ROUNDING` is needed
    because PyTorch may happen to be exact.
    """
    ours = step_of(normalise, x, residual, grad_y, rectify)
    theirs = step_of(plain, x, residual, grad_y, rectify)
    exact = step_of(plain, x, residual, grad_y, rectify, torch.float64)
    for name in ("y", "x", "weight", "bias", "residual", "mean", "variance"):
        found, other, truth = (getattr(step, name) for step in (ours, theirs, exact))
        if truth is not None:
            assert found.dtype == other.dtype, name
            limit = max(1.25 * distance(other, truth), ROUNDING[found.dtype])
            assert distance(found, truth) <= limit, name
    assert ours.batches == theirs.batches == 1


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 13, 16, 24, 31, 32, 33, 48, 63, 64, 70, 255, 256, 257, 300])
@pytest.mark.parametrize(("batch", "size"), [(3, (5, 7)), (1, (61, 41)), (2, (3, 5, 7)), (2, (3, 13, 29))])
def test_no_less_exact_than_pytorch(batch: int, size: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    shape = (batch, channels, *size)
    x, residual, grad_y = (random(shape, seed, dtype) for seed in range(3))
    for rectify in (True, False):
        for added in (residual, None):
            assert_as_exact_as_pytorch(x, added, grad_y, rectify)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_several_blocks_of_few_channels(channels: int, dtype: torch.dtype) -> None:
    """A block has 5418 rows of 3 channels, or 16384 rows of one channel."""
    x, residual, grad_y = (random((2, channels, 11, 29, 31), seed, dtype) for seed in range(3))
    assert_as_exact_as_pytorch(x, residual, grad_y, rectify=True)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [2, 63, 64, 65, 127, 128, 129, 192, 193])
def test_block_boundaries(rows: int, dtype: torch.dtype) -> None:
    """With 256 channels, a block has 64 rows."""
    x, residual, grad_y = (random((1, 256, rows, 1), seed, dtype) for seed in range(3))
    assert_as_exact_as_pytorch(x, residual, grad_y, rectify=True)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    channels=st.integers(1, 300),
    batch=st.integers(1, 3),
    size=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    has_residual=st.booleans(),
    rectify=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_shape_is_as_exact(
    dtype: torch.dtype, channels: int, batch: int, size: list[int], has_residual: bool, rectify: bool
) -> None:
    shape = (batch + 8, channels, *size)  # the variance of two or three rows may be almost zero
    x, residual, grad_y = (random(shape, seed, dtype) for seed in range(3))
    assert_as_exact_as_pytorch(x, residual if has_residual else None, grad_y, rectify)


@needs_compiled
def test_by_hand() -> None:
    """1 and 3 have mean 2 and variance 1: ∓1, times 2 plus 1: −1 and 3, plus residual ½: −½, rectified to 0, and 3½.

    Only the second row's gradient passes: the bias gets 1, the weight 1 · 1, the residual (0, 1). The gradient of x is
    zero, because any two rows normalise to ∓1.
    """
    norm = nn.BatchNorm3d(1, eps=0)
    with torch.no_grad():
        norm.weight.fill_(2)
        norm.bias.fill_(1)
    x = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1).requires_grad_()
    residual = torch.full((1, 1, 2, 1, 1), 0.5, requires_grad=True)
    y = normalise(x, norm, residual)
    assert is_fused(y)
    assert y.flatten().tolist() == [0.0, 3.5]
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert (norm.weight.grad.item(), norm.bias.grad.item()) == (1.0, 1.0)
    assert residual.grad is not None and residual.grad.flatten().tolist() == [0.0, 1.0]
    assert x.grad is not None and x.grad.flatten().tolist() == [0.0, 0.0]
    # 0.9 · 0 + 0.1 · 2, and 0.9 · 1 + 0.1 · 2, the unbiased variance.
    assert norm.running_mean.item() == pytest.approx(0.2) and norm.running_var.item() == pytest.approx(1.1)


@needs_compiled
@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_running_statistics_over_several_steps(momentum: float) -> None:
    ours, theirs = norm_of(6), norm_of(6)
    ours.momentum = theirs.momentum = momentum
    for seed in range(3):
        x = 3 + 2 * random((2, 6, 5, 6, 7), seed)
        normalise(x, ours)
        theirs(x)
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 3
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-6, atol=0)


@needs_compiled
def test_a_small_spread_about_a_large_mean_does_not_cancel() -> None:
    """The mean is 1000 and the standard deviation 1. Squares of 1e6 in float32 would have errors of 0.06 each."""
    x = 1000 + random((2, 5, 16, 17, 19), 0)
    grad_y = random(x.shape, 1)
    norm = norm_of(5)
    norm.momentum = 1.0
    normalise(x, norm)
    rows = x.double().movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(norm.running_var.double(), rows.var(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(norm.running_mean.double(), rows.mean(0), rtol=2**-23, atol=0)
    assert_as_exact_as_pytorch(x, None, grad_y, rectify=True)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "residual", "grad_y"])
def test_values_that_are_not_finite_are_kept(where: str, odd: float, dtype: torch.dtype) -> None:
    """Exactly the values that are NaN or infinite with PyTorch's operations are NaN or infinite here."""
    tensors = {name: random((2, 3, 4, 5, 6), seed, dtype) for seed, name in enumerate(("x", "residual", "grad_y"))}
    tensors["x"][1, 2, 3, 4, 5] = 4  # far above zero, so that the ReLU passes its gradient
    tensors["residual"][1, 2, 3, 4, 5] = 4
    tensors[where][1, 2, 3, 4, 5] = odd
    ours, theirs = (step_of(function, *tensors.values()) for function in (normalise, plain))
    for name in ("y", "x", "weight", "bias", "residual", "mean", "variance"):
        assert torch.equal(getattr(ours, name).isfinite(), getattr(theirs, name).isfinite()), name
    if odd > 0 or isnan(odd):
        everything = torch.cat([getattr(ours, name).float().flatten() for name in ("y", "x", "residual")])
        assert not everything.isfinite().all()


@pytest.fixture
def threads() -> Iterator[Any]:
    """Yield a function that sets the number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 16, 64])
def test_the_number_of_threads_changes_nothing(channels: int, dtype: torch.dtype, threads: Any) -> None:
    x, residual, grad_y = (random((2, channels, 9, 31, 37), seed, dtype) for seed in range(3))
    steps = []
    for number in (1, 2, 3):
        threads(number)
        steps.append(step_of(normalise, x, residual, grad_y))
    for other in steps[1:]:
        for name in ("y", "x", "weight", "bias", "residual", "mean", "variance"):
            assert torch.equal(getattr(other, name), getattr(steps[0], name)), name


@needs_compiled
@pytest.mark.parametrize("rectify", [True, False])
def test_gradients_in_any_memory_layout(rectify: bool) -> None:
    x, residual = random((2, 5, 3, 4, 6), 0), random((2, 5, 3, 4, 6), 1)
    expanded = random((2, 5, 1, 1, 1), 2).expand(x.shape)
    whole = expanded.contiguous(memory_format=torch.channels_last_3d)
    strided = torch.stack([whole, -whole], dim=-1)[..., 0]
    expected = step_of(normalise, x, residual, whole, rectify)
    for grad_y in (expanded, whole.contiguous(), strided):
        assert not grad_y.is_contiguous(memory_format=torch.channels_last_3d)
        found = step_of(normalise, x, residual, grad_y, rectify)
        for name in ("x", "weight", "bias", "residual"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name


@needs_compiled
def test_a_shift_and_a_scale_of_the_input_change_nothing() -> None:
    x, residual = random((2, 7, 6, 7, 8), 0), random((2, 7, 6, 7, 8), 1)
    first = normalise(x, norm_of(7), residual)
    moved = normalise((20 * x + 5).contiguous(memory_format=torch.channels_last_3d), norm_of(7), residual)
    torch.testing.assert_close(moved, first, rtol=1e-4, atol=1e-4)


@needs_compiled
@pytest.mark.parametrize("rectify", [True, False])
def test_the_gradient_along_a_shift_and_a_scale_is_zero(rectify: bool) -> None:
    """Neither a shift nor a scale of a channel changes the output, so that the gradient along both is zero."""
    x, grad_y = random((2, 7, 6, 7, 8), 0), random((2, 7, 6, 7, 8), 1)
    grad_x = step_of(normalise, x, None, grad_y, rectify).x.double()
    lengths = grad_x.movedim(1, 0).flatten(1).norm(dim=1)
    for direction in (torch.ones_like(grad_x), x.double()):
        along = (grad_x * direction).movedim(1, 0).flatten(1).sum(1)
        assert (along.abs() < 1e-5 * direction[:, 0].norm() * lengths).all()


def untouched(kind: str) -> tuple[Tensor, Any, Tensor]:
    """Return input, norm and residual that the compiled operation does not accept."""
    x, residual, norm = random((2, 3, 4, 5, 6), 0), random((2, 3, 4, 5, 6), 1), norm_of(3)
    if kind == "contiguous":
        return x.contiguous(), norm, residual.contiguous()
    if kind == "float64":
        return x.double(), norm.double(), residual.double()
    if kind == "evaluation":
        norm.eval()
    if kind == "residual of another layout":
        residual = residual.contiguous()
    if kind == "residual of one value a channel":
        residual = residual[:, :, :1, :1, :1].contiguous()
    if kind == "cumulative":
        norm.momentum = None
    if kind == "without memory":
        norm = nn.BatchNorm3d(3, track_running_stats=False)
    if kind == "without weights":
        norm = nn.BatchNorm3d(3, affine=False)
    return x, norm, residual


@pytest.mark.parametrize(
    "kind",
    [
        "contiguous",
        "float64",
        "evaluation",
        "residual of another layout",
        "residual of one value a channel",
        "cumulative",
        "without memory",
        "without weights",
    ],
)
def test_other_input_takes_pytorchs_own_operations(kind: str) -> None:
    (x, ours, residual), (_, theirs, _) = untouched(kind), untouched(kind)
    x.requires_grad_()
    y, expected = normalise(x, ours, residual), plain(x, theirs, residual)
    assert not is_fused(y)
    assert torch.equal(y, expected)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_row_is_refused_as_by_pytorch(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalise(random((1, 4, 1, 1, 1), 0, dtype), norm_of(4))


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave like an installation without a compiler."""
    monkeypatch.setattr(fused, "_files", lambda: iter(()))
    for function in (fused._library, fused.is_compiled):
        function.cache_clear()
    yield
    for function in (fused._library, fused.is_compiled):
        function.cache_clear()


def test_without_the_library_one_warning_and_the_same_numbers(
    without_library: None, caplog: pytest.LogCaptureFixture
) -> None:
    x, residual, grad_y = (random((2, 3, 4, 5, 6), seed) for seed in range(3))
    found, expected = (step_of(function, x, residual, grad_y) for function in (normalise, plain))
    for name in ("y", "x", "weight", "bias", "residual", "mean", "variance"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    shifted = shift_and_rectify(x.clone(), torch.ones(3), residual)
    torch.testing.assert_close(shifted, F.relu(x + 1 + residual))
    assert not fused.is_compiled()
    assert ["_fused: not compiled" in record.message for record in caplog.records] == [True]


@needs_compiled
def test_a_second_backward_pass_needs_the_graph_kept() -> None:
    x = random((2, 3, 4, 5, 6), 0).requires_grad_()
    total = normalise(x, norm_of(3)).square().sum()
    total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    once = x.grad.clone()
    total.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        total.backward()  # type: ignore[no-untyped-call]


@needs_compiled
def test_a_gradient_of_the_gradient_is_refused() -> None:
    x = random((2, 3, 4, 5, 6), 0).requires_grad_()
    (grad,) = torch.autograd.grad(normalise(x, norm_of(3)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()  # type: ignore[no-untyped-call]


@needs_compiled
@pytest.mark.parametrize("changed", ["x", "y"])
def test_overwriting_what_the_backward_pass_needs_is_refused(changed: str) -> None:
    leaf = random((2, 3, 4, 5, 6), 0).requires_grad_()
    x = 2 * leaf
    y = normalise(x, norm_of(3))
    total = y.square().sum()
    with torch.no_grad():
        (x if changed == "x" else y).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()  # type: ignore[no-untyped-call]


@needs_compiled
def test_training_without_gradients_still_remembers() -> None:
    x, ours, theirs = random((2, 3, 4, 5, 6), 0).requires_grad_(), norm_of(3), norm_of(3)
    with torch.no_grad():
        y, expected = normalise(x, ours), plain(x, theirs)
    assert y.grad_fn is None and ours.num_batches_tracked == 1
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)


@needs_compiled
@pytest.mark.parametrize(
    "wanted", [("x",), ("weight",), ("bias",), ("residual",), ("x", "bias"), ("weight", "residual")]
)
def test_gradients_of_some_inputs_only(wanted: tuple[str, ...]) -> None:
    x, residual, grad_y = (random((2, 3, 4, 5, 6), seed) for seed in range(3))
    expected = step_of(normalise, x, residual, grad_y)
    norm = norm_of(3)
    inputs = {"x": x, "weight": norm.weight, "bias": norm.bias, "residual": residual}
    for name, tensor in inputs.items():
        tensor.requires_grad_(name in wanted)
    normalise(x, norm, residual).backward(grad_y)  # type: ignore[no-untyped-call]
    for name, tensor in inputs.items():
        assert (tensor.grad is not None) == (name in wanted)
        assert tensor.grad is None or torch.equal(tensor.grad, getattr(expected, name))


@needs_compiled
def test_shift_and_rectify_rounds_once_to_the_nearest_even() -> None:
    """Every bfloat16 value, with NaN and infinities, and shifts that overflow."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16).view(2**14, 4, 1, 1)
    shift = torch.tensor([0.0, 1 / 3, -7e-39, 3e38])
    for residual in (None, random((2**14, 4, 1, 1), 0, torch.bfloat16)):
        exact = x.float() + shift.view(4, 1, 1)
        exact = exact if residual is None else exact + residual.float()
        found = shift_and_rectify(x.clone(), shift, residual, rectify=False)
        torch.testing.assert_close(found, exact.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)
        found = shift_and_rectify(x.clone(), shift, residual)
        torch.testing.assert_close(found, F.relu(exact).to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 16, 33, 70, 257])
@pytest.mark.parametrize("size", [(5, 7), (97, 61), (3, 5, 7), (7, 13, 29)])
def test_shift_and_rectify_is_the_sum_in_place(size: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    """The memory of the middle image of three is overwritten, its neighbors are not changed."""
    images = random((3, channels, *size), 0, dtype)
    before, x = images.clone(), images[1:2]
    residual, shift = random(x.shape, 1, dtype), torch.randn(channels, generator=torch.Generator().manual_seed(2))
    wide = before[1:2].float() + shift.view(-1, *[1] * len(size)) + residual.float()
    y = shift_and_rectify(x, shift, residual)
    assert y.data_ptr() == x.data_ptr()
    assert torch.equal(y, F.relu(wide).to(dtype))
    assert torch.equal(images[::2], before[::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rectify", [True, False])
def test_shift_and_rectify_of_other_layouts(rectify: bool, dtype: torch.dtype) -> None:
    """PyTorch's operations round a bfloat16 after each sum: three halves of its spacing at numbers up to 8."""
    x, residual = (random((2, 3, 4, 5, 6), seed, dtype).contiguous() for seed in range(2))
    shift = torch.tensor([-1.0, 1 / 3, 1.0])
    wide = x.float() + shift.view(3, 1, 1, 1) + residual.float()
    y = shift_and_rectify(x, shift, residual, rectify=rectify)
    assert y.data_ptr() == x.data_ptr()
    allowed = 1.5 * 2**-5 if dtype == torch.bfloat16 else 1e-6
    assert (y.float() - (F.relu(wide) if rectify else wide)).abs().max() <= allowed


@needs_compiled
def test_a_library_of_another_version_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_VERSION", fused._VERSION + 1)
    fused._library.cache_clear()
    assert fused._library() is None
    fused._library.cache_clear()
