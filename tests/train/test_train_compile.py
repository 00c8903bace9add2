"""Compiled training, and training where compiling fails."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from renalnet.config import TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.nets import build_net
from renalnet.runtime.device import Device, pick_device
from renalnet.train.forward import TrainingForward
from renalnet.train.run import StepReport, TrainingRun

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning"
)  # a module that the compiler imports uses it
LATER = "the network could not be compiled"


def one_epoch(config: TrainConfig, choice: str) -> TrainConfig:
    # Few blocks, because the compiler works on each of them.
    net = config.net.model_copy(update={"encoder_blocks": (1, 1, 1), "dilations": (2,), "ppm_kernels": (1,)})
    return config.model_copy(update={"net": net, "compile": choice, "epochs": 1, "steps_per_epoch": 2})


def losses_to(losses: list[float]) -> Callable[[StepReport], None]:
    return lambda report: losses.append(report.loss)


@pytest.mark.slow
def test_auto_compiles_on_a_gpu_only(tiny_train: TrainConfig) -> None:
    net = build_net(tiny_train.net, tiny_train.labels)
    assert not TrainingForward(net, pick_device("float32"), "auto").is_compiled
    assert TrainingForward(net, Device(torch.device("cuda"), False), "auto").is_compiled
    assert not TrainingForward(net, Device(torch.device("cuda"), False), "off").is_compiled


def test_a_compiler_that_cannot_begin_is_gone_without(
    tiny_train: TrainConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("torch.compile is not supported here")

    monkeypatch.setattr(torch, "compile", refuse)
    forward = TrainingForward(build_net(tiny_train.net, tiny_train.labels), pick_device("float32"), "on")
    assert not forward.is_compiled
    assert f"{LATER} (torch.compile is not supported here); training continues without compiling" in caplog.text


def test_a_compiler_that_fails_at_the_first_step_is_gone_without(
    tiny_train: TrainConfig,
    ball_cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(image: Tensor) -> list[Tensor]:
        raise RuntimeError("CppCompileError: C++ compile error\nwith a long output")

    plain = list(TrainingRun(one_epoch(tiny_train, "off"), ball_cohort, str(tmp_path / "off")))
    monkeypatch.setattr(torch, "compile", lambda _: fail)
    tried = list(TrainingRun(one_epoch(tiny_train, "on"), ball_cohort, str(tmp_path / "on")))
    assert caplog.text.count(LATER) == 1 and "with a long output" not in caplog.text
    assert [record.loss for record in tried] == [record.loss for record in plain]


def test_an_error_of_the_network_is_not_the_compilers(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(one_epoch(tiny_train, "off"), ball_cohort, str(tmp_path))

    def fail(_: Tensor) -> list[Tensor]:
        raise RuntimeError("shapes do not match")

    run._stepper.forward._plain = run._stepper.forward._compiled = fail
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(run)


@pytest.mark.slow
def test_compiled_training_is_the_same_but_for_rounding(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain: list[float] = []
    compiled: list[float] = []
    list(TrainingRun(one_epoch(tiny_train, "off"), ball_cohort, str(tmp_path / "off"), on_step=losses_to(plain)))
    run = TrainingRun(one_epoch(tiny_train, "on"), ball_cohort, str(tmp_path / "on"), on_step=losses_to(compiled))
    list(run)
    assert run.is_compiled and LATER not in caplog.text
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    # After one step, because rounding errors grow through the BatchNorm of narrow layers. The step itself lowers the
    # loss by 3 %.
    assert compiled[1] == pytest.approx(plain[1], rel=1e-3)


@pytest.mark.slow
def test_without_a_c_compiler_training_goes_on(
    tiny_train: TrainConfig,
    ball_cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/bin/false",))
    torch.compiler.reset()
    config = one_epoch(tiny_train, "on")
    config = config.model_copy(update={"net": config.net.model_copy(update={"width": 6})})
    run = TrainingRun(config, ball_cohort, str(tmp_path / "on"))
    (record,) = run
    assert not record.failure and not run.is_compiled
    assert caplog.text.count(LATER) == 1
