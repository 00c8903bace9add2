"""Training steps and inferences of our networks beside the same in plain PyTorch and beside MONAI's SegResNet.

All contenders live at once, each in a process of its own, and take turns step by step: what else a machine does in the
meantime then falls on all alike. Figures are medians over the rounds.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from renalnet.config import BASELINES, MAIN_NETWORK, NetConfig, NetName
from renalnet.nets import build_net
from renalnet.nets.describe import describe, equal_cost_width
from renalnet.nets.fused import is_compiled
from renalnet.runtime.device import Device, pick_device
from study.bench.measuring.processes import Process, answer, ask, is_installed, started
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.networks.plain import plain
from study.bench.networks.steps import PEER_WIDTH, WEIGHTS, StepJob, painted

OURS: Final = "renalnet"
PLAIN: Final = "plain float32"
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive"}
"""For all alike: threads that wait by spinning take four times as long where other processes want the cores too."""
_TASKS: Final = {"train": "training step", "infer": "inference"}


@dataclass
class Turns:
    """A contender's process and what it has measured, in the order of the rounds."""

    job: StepJob
    process: Process
    gflop: dict[str, float]
    """Of an inference and of a training step."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {task: [] for task in _TASKS})
    loss: float = 0.0
    """After the first step."""

    def ask(self, word: str) -> dict[str, float]:
        """What the process answers."""
        return ask(self.process, word, self.job.contender, self.job)

    def milliseconds(self, task: str) -> float:
        """Median."""
        return 1000 * median(self.seconds[task])

    def gflop_per_s(self, task: str) -> float:
        """Operations in the median time."""
        return self.gflop[task] / median(self.seconds[task])

    def read(self, what: str) -> NDArray[np.float32]:
        """Its `logits` or its `gradient` with the first weights."""
        values: NDArray[np.float32] = np.load(Path(self.job.folder) / f"{self.job.contender}-{what}.npy")
        return values


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Times, operations, agreement, memory and traffic of the paper's network; times of the baselines at equal cost."""
    device = pick_device()
    jobs = contenders(size, NetConfig(), folder / MAIN_NETWORK, device)
    with ExitStack() as stack:
        turns = _taken(jobs, size.network_rounds, stack)
        ours = turns[OURS]
        yield from _times(turns, device)
        yield from _per_operation(jobs, turns)
        yield from _agreement(ours, turns[PLAIN], turns[_fast_name(device)])
        yield from _memory(turns, device)
        yield _traffic(ours, size, device)
    for name in BASELINES:
        yield from _at_equal_cost(name, size, folder / name, device)


def contenders(size: Size, config: NetConfig, folder: Path, device: Device) -> list[StepJob]:
    """Ours first; MONAI's whether it is installed or not."""
    ours = StepJob(
        OURS,
        "renalnet",
        config.model_dump(mode="json"),
        size.network_shape,
        size.network_batch,
        str(folder),
        True,
        True,
    )
    fast = _fast_name(device)
    eager = replace(ours, contender=PLAIN, network="plain", is_fast=False, keeps_memory=False)
    aligned = replace(eager, contender=fast, is_fast=True)
    peer = replace(eager, contender="segresnet float32", network="segresnet")
    fast_peer = replace(peer, contender=fast.replace("plain", "segresnet"), is_fast=True)
    if device.torch_device.type == "cuda":
        same = [replace(eager, contender=f"{PLAIN}, TF32", allows_tf32=True)]
    else:
        same = [_keeping(aligned), _keeping(fast_peer)]
    return [ours, eager, aligned, peer, fast_peer, *same]


def _keeping(job: StepJob) -> StepJob:
    """With our setting of the allocator, so that its part in a ratio can be told."""
    return replace(job, contender=f"{job.contender}, memory kept", keeps_memory=True)


def _fast_name(device: Device) -> str:
    return f"plain {str(device.dtype).removeprefix('torch.')}, channels-last"


def _taken(jobs: Sequence[StepJob], num_rounds: int, stack: ExitStack) -> dict[str, Turns]:
    """All contenders that are installed, warmed up and asked in turn."""
    _write_weights(jobs[0])
    turns = [_start(job, stack) for job in jobs if job.network != "segresnet" or is_installed("monai")]
    for turn in turns:
        turn.loss = turn.ask("check")["loss"]
    for _ in range(num_rounds):
        for task in _TASKS:
            for turn in turns:
                turn.seconds[task].append(turn.ask(task)["s"])
    return {turn.job.contender: turn for turn in turns}


def _start(job: StepJob, stack: ExitStack) -> Turns:
    process = stack.enter_context(started("study.bench.networks.steps", asdict(job), _ENVIRONMENT))
    return Turns(job, process, answer(process, job.contender, job))


@torch.no_grad()
def _write_weights(job: StepJob) -> None:
    """First weights, and as running statistics those of the image, so that inference sees features as if trained."""
    net = plain(build_net(NetConfig(**job.net))).train()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = 1.0
    net(painted(job.shape, job.batch_size)[0])
    Path(job.folder).mkdir(parents=True)
    save_file(net.state_dict(), Path(job.folder) / WEIGHTS)


def _times(turns: dict[str, Turns], device: Device) -> Iterator[Row]:
    ours = turns[OURS]
    note = f"ours: {_format(device)}; batch {ours.job.batch_size} of {_by(ours.job.shape)}"
    for task, what in _TASKS.items():
        for name, peer in turns.items():
            if peer.job.network == "plain":
                yield Row("network", what, "ms", *_beside(ours, name, peer, task), "less", note)


def _beside(ours: Turns, name: str, peer: Turns, task: str) -> tuple[float, str, float]:
    return ours.milliseconds(task), name, peer.milliseconds(task)


def _format(device: Device) -> str:
    if device.torch_device.type == "cuda":
        return str(device)
    found = "bfloat16" if device.use_bfloat16 else "float32, as the processor does not compute in bfloat16"
    return found if is_compiled() else f"{found}; compiled part missing"


def _per_operation(jobs: Iterable[StepJob], turns: dict[str, Turns]) -> Iterator[Row]:
    ours = turns[OURS]
    for task, what in _TASKS.items():
        for job in jobs:
            if job.network == "segresnet":
                peer = turns.get(job.contender)
                rate = peer.gflop_per_s(task) if peer else None
                note = _operations(ours, peer, task) if peer else "not installed"
                yield Row(
                    "network",
                    f"{what}, per operation",
                    "GFLOP/s",
                    ours.gflop_per_s(task),
                    job.contender,
                    rate,
                    note=note,
                )


def _operations(ours: Turns, peer: Turns, task: str) -> str:
    return f"{ours.gflop[task]:.1f} GFLOP; MONAI's of {PEER_WIDTH} filters, the nearest width: {peer.gflop[task]:.1f}"


def _agreement(ours: Turns, reference: Turns, peer: Turns) -> Iterator[Row]:
    """How far ours and the plain network in the same number format are from the plain one in float32."""
    note = "against plain float32"
    name = peer.job.contender
    errors = [logit_errors(turn.read("logits"), reference.read("logits")) for turn in (ours, peer)]
    for mine, its, what in zip(*errors, ("root mean square", "maximum"), strict=True):
        text = f"{note}, in standard deviations of its logits"
        yield Row("network", f"error of the logits, {what}", "sd", mine, name, its, "less", text)
    shares = [_differing(turn, reference) for turn in (ours, peer)]
    yield Row("network", "voxels of another label", "share", shares[0], name, shares[1], "less", note)
    losses = [abs(turn.loss - reference.loss) / reference.loss for turn in (ours, peer)]
    yield Row("network", "error of the loss after a step", "share", losses[0], name, losses[1], "less", note)
    cosines = [cosine(turn.read("gradient"), reference.read("gradient")) for turn in (ours, peer)]
    yield Row("network", "cosine of the first gradient", "", cosines[0], name, cosines[1], "more", note)


def logit_errors(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Root mean square and maximum of the difference of (B, C, D, H, W), by the spread of `reference` in a class."""
    spread = float((reference - reference.mean(axis=(0, 2, 3, 4), keepdims=True)).std())
    error = np.abs(logits - reference)
    return float(np.sqrt(np.square(error).mean())) / spread, float(error.max()) / spread


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of the angle between two gradients."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _differing(turn: Turns, reference: Turns) -> float:
    labels = [each.read("logits").argmax(axis=1) for each in (turn, reference)]
    return float((labels[0] != labels[1]).mean())


def _memory(turns: dict[str, Turns], device: Device) -> Iterator[Row]:
    is_gpu = device.torch_device.type == "cuda"
    note = "training step, four crops of 64×150×150" if is_gpu else "the process, training and inference"
    peaks = {name: turn.ask("peak")["mb"] for name, turn in turns.items()}
    for name, peak in peaks.items():
        if turns[name].job.network == "plain":
            yield Row("network", "peak memory", "MB", peaks[OURS], name, peak, "less", note)


def _traffic(ours: Turns, size: Size, device: Device) -> Row:
    """The least that a training step moves: each activation kept for the backward pass, written once and read once."""
    kept_mb = describe(NetConfig(**ours.job.net), ours.job.shape).training_memory_mb * device.dtype.itemsize / 4
    moved_gb = 2 * kept_mb * ours.job.batch_size * 2**20 / 1e9
    copied = median(ours.ask("copy")["gb_per_s"] for _ in range(size.network_rounds))
    share = moved_gb / copied / median(ours.seconds["train"])
    note = f"kept activations written and read once: {moved_gb:.2f} GB; a copy moves {copied:.1f} GB/s"
    return Row("network", "training step, share of the memory's speed", "share", share, note=note)


def _at_equal_cost(name: NetName, size: Size, folder: Path, device: Device) -> Iterator[Row]:
    width = equal_cost_width(name, NetConfig(), size.network_shape)
    jobs = contenders(size, NetConfig(name=name, width=width), folder, device)[:2]
    with ExitStack() as stack:
        turns = _taken(jobs, size.network_rounds, stack)
        ours, peer = turns[OURS], turns[PLAIN]
    for task, what in _TASKS.items():
        note = f"width {width}, {ours.gflop[task]:.1f} GFLOP"
        yield Row("network", f"{what}, {name}", "ms", *_beside(ours, PLAIN, peer, task), "less", note)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
