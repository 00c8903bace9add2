"""Steps that fail: values that are not finite, and batches that do not fit into memory."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.broken_cohort import without_numbers
from torch import Tensor

from renalnet.config import OptimConfig, TrainConfig
from renalnet.data.batches.augmentation import Augmenter
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.loader import BatchLoader
from renalnet.data.batches.tensors import TensorMaker
from renalnet.data.store.reader import Store
from renalnet.nets import SegmentationNet, build_net
from renalnet.runtime.device import is_out_of_memory, pick_device
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.losses.supervision import loss_of, supervised_loss
from renalnet.train.memory import BufferHistory
from renalnet.train.run import TrainingRun
from renalnet.train.step import Stepper

ROOT = Path(__file__).parents[2]


def allocator_error() -> RuntimeError:
    """Return the error that PyTorch's allocator raises on a CPU without enough memory."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    return raised.value


def changed(config: TrainConfig, **optim: float | str) -> TrainConfig:
    return config.model_copy(update={"optim": config.optim.model_copy(update=optim)})


def make_stepper(config: TrainConfig, cohort: Cohort) -> tuple[Stepper, BatchLoader]:
    device = pick_device(config.precision)
    augmenter = Augmenter(config.augment, cohort.normalisation, config.seed)
    tensors = TensorMaker(cohort.normalisation, device, augmenter)
    stepper = Stepper(build_net(config.net, config.labels, config.seed), config, device, tensors)
    stepper.begin_epoch(config.optim.base_rate)
    return stepper, BatchLoader(cohort.train, config, fill_hu=cohort.normalisation.hu_min)


def copies(stepper: Stepper) -> list[Tensor]:
    """Return copies of weights, BatchNorm's statistics and the state of the optimiser."""
    state = [tensor for each in stepper.optimizer.state.values() for tensor in each.values()]
    return [tensor.clone() for tensor in (*stepper.net.state_dict().values(), *state)]


def refuse_more_than(
    num_crops: int, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException] = allocator_error
) -> None:
    """Make networks run out of memory with more crops than this, after BatchNorm's statistics have changed."""
    whole = SegmentationNet.training_logits

    def limited(net: SegmentationNet, image: Tensor) -> list[Tensor]:
        outputs = whole(net, image)
        if len(image) > num_crops:
            raise error()
        return outputs

    monkeypatch.setattr(SegmentationNet, "training_logits", limited)


def plain_optimizer(net: torch.nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    if optim.name == "adamw":
        betas = (optim.momentum, 0.999)
        return torch.optim.AdamW(
            net.parameters(), optim.base_rate, betas, weight_decay=optim.weight_decay, foreach=False
        )
    return torch.optim.SGD(
        net.parameters(), optim.base_rate, optim.momentum, weight_decay=optim.weight_decay, foreach=False
    )


OPTIMIZER_RATES = [("sgd", 0.05), ("adamw", 0.001)]


# AdamW divides by the size of the gradient, so rounding decides where that is close to zero.
@pytest.mark.parametrize(("name", "rate", "least_equal"), [("sgd", 0.05, 1.0), ("adamw", 0.001, 0.99)])
def test_fused_steps_are_plain_ones(
    name: str, rate: float, least_equal: float, tiny_train: TrainConfig, ball_cohort: Cohort
) -> None:
    tiny_train = changed(tiny_train, name=name, base_rate=rate, weight_decay=0.5 if name == "adamw" else 1e-5)
    stepper, loader = make_stepper(tiny_train, ball_cohort)
    plain = build_net(tiny_train.net, tiny_train.labels, tiny_train.seed).train()
    optim = tiny_train.optim
    optimizer = plain_optimizer(plain, optim)
    tensors = TensorMaker(
        ball_cohort.normalisation,
        pick_device("float32"),
        Augmenter(tiny_train.augment, ball_cohort.normalisation, 0),
    )
    for step in range(3):
        (loss,) = stepper.step(loader.batch(step))
        image, label = tensors(loader.batch(step))
        expected = supervised_loss(
            plain.training_logits(image), label, loss_of(tiny_train.loss, tiny_train.labels, label)
        )
        optimizer.zero_grad()
        expected.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), optim.clip_norm)
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    found, wanted = (torch.cat([p.flatten() for p in net.parameters()]) for net in (stepper.net, plain))
    assert torch.isclose(found, wanted, rtol=1e-4, atol=1e-6).float().mean() >= least_equal


@pytest.mark.parametrize(("name", "rate"), OPTIMIZER_RATES)
def test_a_loss_that_is_not_finite_leaves_everything_as_it_was(
    name: str, rate: float, tiny_train: TrainConfig, ball_cohort: Cohort
) -> None:
    tiny_train = changed(tiny_train, name=name, base_rate=rate)
    stepper, loader = make_stepper(tiny_train, ball_cohort)
    stepper.step(loader.batch(0))
    with torch.no_grad():
        next(stepper.net.parameters()).fill_(math.inf)
    before = copies(stepper)
    assert stepper.step(loader.batch(1)) == []
    assert stepper.failure is not None and stepper.failure.what == "the loss is not finite"
    assert all(torch.equal(one, two) for one, two in zip(before, copies(stepper), strict=True))


def test_a_gradient_that_is_not_finite_is_told_from_a_loss(tiny_train: TrainConfig, ball_cohort: Cohort) -> None:
    stepper, loader = make_stepper(tiny_train, ball_cohort)
    stepper.net.head.weight.register_hook(lambda gradient: gradient * math.inf)
    before = copies(stepper)
    assert stepper.step(loader.batch(0)) == []
    assert stepper.failure is not None and stepper.failure.what == "the gradient is not finite"
    assert all(torch.equal(one, two) for one, two in zip(before, copies(stepper), strict=True))


def test_the_optimiser_changes_nothing_after_a_value_that_is_not_finite(
    tiny_train: TrainConfig, ball_cohort: Cohort
) -> None:
    """As on a GPU, where a failure is known only after the next step has been started."""
    stepper, loader = make_stepper(tiny_train, ball_cohort)
    stepper._num_late = 1
    assert stepper.step(loader.batch(0)) == []
    hook = stepper.net.head.weight.register_hook(lambda gradient: gradient * math.nan)
    before = copies(stepper)
    assert len(stepper.step(loader.batch(1))) == 1 and stepper.failure is None
    hook.remove()  # the next step is finite, but must not change the weights
    assert stepper.step(loader.batch(2)) == []
    assert stepper.failure is not None and stepper.failure.what == "the gradient is not finite"
    assert stepper.flush() == []
    assert all(torch.equal(one, two) for one, two in zip(before, copies(stepper), strict=True))


def test_losses_known_late_are_those_known_at_once(tiny_train: TrainConfig, ball_cohort: Cohort) -> None:
    (early, loader), (late, _) = make_stepper(tiny_train, ball_cohort), make_stepper(tiny_train, ball_cohort)
    late._num_late = 1
    at_once = [loss for step in range(3) for loss in early.step(loader.batch(step))]
    afterwards = [loss for step in range(3) for loss in late.step(loader.batch(step))]
    assert len(afterwards) == 2 and [*afterwards, *late.flush()] == at_once


def test_overflow_ends_the_run_with_a_finite_score_and_sound_weights(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    run = TrainingRun(changed(tiny_train, base_rate=1e30), ball_cohort, str(tmp_path))
    (record,) = run
    assert record.objective == 0.0 and "is not finite in epoch 1, step 2; lower optim.base_rate" in record.failure
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    assert list(TrainingRun(changed(tiny_train, base_rate=1e30), ball_cohort, str(tmp_path))) == []


def test_a_network_that_diverged_in_the_last_step_fails_in_its_validation(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    config = changed(tiny_train, base_rate=1e30).model_copy(update={"steps_per_epoch": 1})
    (record,) = TrainingRun(config, ball_cohort, str(tmp_path))
    assert record.objective == 0.0 and record.failure == (
        "the network's probabilities are not finite in epoch 1, its validation; lower optim.base_rate"
    )
    assert TrainingRun(config, ball_cohort, str(tmp_path)).is_finished


def test_a_broken_normalisation_is_a_failure_at_the_first_step(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    broken = without_numbers(ball_cohort)
    (record,) = TrainingRun(tiny_train, broken, str(tmp_path))
    assert record.failure == "the loss is not finite in epoch 1, step 1; lower optim.base_rate"


def test_what_exhausted_memory_looks_like() -> None:
    assert is_out_of_memory(allocator_error()) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match")) and not is_out_of_memory(ValueError())


@pytest.mark.slow
@pytest.mark.parametrize("error", [allocator_error, MemoryError, torch.OutOfMemoryError])
def test_a_step_that_does_not_fit_is_made_in_parts(
    error: Callable[[], BaseException],
    tiny_train: TrainConfig,
    ball_cohort: Cohort,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = changed(tiny_train, batch_size=5)
    refuse_more_than(2, monkeypatch, error)
    halved, loader = make_stepper(config, ball_cohort)
    chosen, _ = make_stepper(changed(config, micro_batch=2), ball_cohort)
    expected = chosen.step(loader.batch(0))
    assert halved.step(loader.batch(0)) == expected and halved.micro_batch == 2  # 5, 3, 2
    # BatchNorm's statistics are also those of a step without a failure.
    assert all(torch.equal(one, two) for one, two in zip(copies(halved), copies(chosen), strict=True))
    assert "5 crops at a time" in caplog.text and "statistics from 2 crops" in caplog.text


def test_parts_add_up_to_the_whole_batch(tiny_train: TrainConfig, ball_cohort: Cohort) -> None:
    """Loss and gradient are those of the batch if the statistics of BatchNorm are fixed."""
    config = changed(tiny_train, batch_size=5, clip_norm=1e9)
    gradients, losses = [], []
    for micro_batch in (0, 2):
        stepper, loader = make_stepper(changed(config, micro_batch=micro_batch), ball_cohort)
        stepper.net.eval()
        losses += stepper.step(loader.batch(0))
        gradients.append([p.grad for p in stepper.net.parameters() if p.grad is not None])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def test_one_crop_that_does_not_fit_ends_the_run_in_words(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_more_than(0, monkeypatch)
    (record,) = TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert record.failure == (
        "memory ran out with one crop at a time in epoch 1, step 1; lower net.width or patch.shape, or free memory"
    )


def test_a_run_that_memory_ended_goes_on_when_there_is_some(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_train.model_copy(update={"epochs": 1})
    with monkeypatch.context() as patch:
        refuse_more_than(0, patch)
        list(TrainingRun(config, ball_cohort, str(tmp_path)))
    run = TrainingRun(config, ball_cohort, str(tmp_path))
    assert run.step == 0 and not run.is_finished
    (record,) = run
    assert not record.failure and run.is_finished


def test_a_validation_that_does_not_fit_fails_in_words_and_is_made_when_it_does(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> Tensor:
        raise allocator_error()

    config = tiny_train.model_copy(update={"epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationNet, "forward", no_room)
        (record,) = TrainingRun(config, ball_cohort, str(tmp_path))
    assert record.failure.startswith("memory ran out with one sub-volume at a time in epoch 1, its validation; lower")
    run = TrainingRun(config, ball_cohort, str(tmp_path))
    assert run.step == config.steps_per_epoch and not run.is_finished
    (record,) = run
    (undisturbed,) = TrainingRun(config, ball_cohort, str(tmp_path / "other"))
    assert (record.loss, record.dice) == (undisturbed.loss, undisturbed.dice)


def test_other_errors_are_nobodys_memory(
    tiny_train: TrainConfig, ball_cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_more_than(0, monkeypatch, lambda: RuntimeError("shapes do not match"))
    stepper, loader = make_stepper(tiny_train, ball_cohort)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        stepper.step(loader.batch(0))


@pytest.mark.slow
def test_a_resumed_run_keeps_its_parts(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as limited:
        refuse_more_than(1, limited)
        undisturbed = list(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "a")))
        next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "b"))))
    resumed = TrainingRun(tiny_train, ball_cohort, str(tmp_path / "b"))
    list(resumed)
    assert [record.loss for record in resumed.records] == [record.loss for record in undisturbed]


def test_buffers_of_the_last_two_steps_come_back() -> None:
    buffer = torch.zeros(2)
    history = BufferHistory([buffer])
    for value in (1.0, 2.0, 3.0):
        history.take()
        buffer.fill_(value)
    history.put_back()
    assert buffer.tolist() == [2.0, 2.0]
    history.put_back(steps=2)
    assert buffer.tolist() == [1.0, 1.0]


@pytest.mark.slow
def test_memory_that_the_system_refuses(tiny_train: TrainConfig, ball_store: Store, tmp_path: Path) -> None:
    """In a real process with a real limit, the batch of 64 large crops does not fit, but parts of it do."""
    config = changed(tiny_train, batch_size=64)
    patch, net = config.patch.model_copy(update={"shape": (24, 40, 40)}), config.net.model_copy(update={"width": 16})
    config = config.model_copy(update={"patch": patch, "net": net, "epochs": 1, "steps_per_epoch": 1})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    code = f"""
import resource, torch
from pathlib import Path
from renalnet.runtime import log
from renalnet.config import OptimConfig, TrainConfig
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import open_store
from renalnet.train.run import TrainingRun
log.configure()
torch.set_num_threads(1)
config = TrainConfig.model_validate_json(Path({str(tmp_path / "config.json")!r}).read_text())
run = TrainingRun(config, load_cohort(open_store({ball_store.path!r})), {str(tmp_path / "run")!r})
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1500 * 2**20,) * 2)
print([record.failure for record in run], run.step)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "[''] 1", done.stderr
    assert "memory ran out with 64 crops at a time" in done.stderr
