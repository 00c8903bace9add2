"""Training steps and inference of the project's networks, compared with plain PyTorch, MONAI's SegResNet and OpenVINO.

All implementations run at the same time, each in its own process, and take turns step by step. Other load on the
machine then affects all of them alike. Values are medians over the rounds.
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

from renalnet.config import BASELINES, KIDNEY_TUMOR, MAIN_NETWORK, NetConfig, NetName
from renalnet.nets import build_net
from renalnet.nets.describe import describe, equal_cost_width
from renalnet.nets.fused import is_compiled
from renalnet.runtime.device import Device, pick_device
from study.bench.measuring.processes import Process, answer, ask, is_installed, started
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.networks.network_process import PEER_WIDTH, WEIGHTS, StepJob, painted
from study.bench.networks.plain import plain

OURS: Final = "renalnet"
PLAIN: Final = "plain float32"
PEAK_MEMORY: Final = "peak memory"
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive"}
"""Environment of every implementation. Threads that spin while they wait take four times as long where other processes
use the same cores."""
_TASKS: Final = {"train": "training step", "infer": "inference"}
_LIBRARIES: Final = {"segresnet": "monai", "openvino": "openvino"}
"""Optional library that a network needs."""


@dataclass
class Turns:
    """The process of one implementation and its measurements, in the order of the rounds."""

    job: StepJob
    process: Process
    gflop: dict[str, float]
    """Operations, in 10⁹, of an inference and of a training step."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {task: [] for task in _TASKS})
    loss: float = 0.0
    """Loss after the first step."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is measured."""
        return ("infer",) if self.job.network == "openvino" else tuple(_TASKS)

    def ask(self, word: str) -> dict[str, float]:
        """Send a word to the process and return its answer."""
        return ask(self.process, word, self.job.name, self.job)

    def milliseconds(self, task: str) -> float:
        """Return the median time."""
        return 1000 * median(self.seconds[task])

    def gflop_per_s(self, task: str) -> float:
        """Return the operations per second, in 10⁹, at the median time."""
        return self.gflop[task] / median(self.seconds[task])

    def read(self, what: str) -> NDArray[np.float32]:
        """Return the `logits` or the `gradient` of the initial weights."""
        values: NDArray[np.float32] = np.load(Path(self.job.folder) / f"{self.job.name}-{what}.npy")
        return values


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield times, operations, agreement and memory of 3D_FCN_PPM, then times of the baselines at equal cost."""
    device = pick_device()
    yield from main_rows(size, folder, device)
    for name in BASELINES:
        yield from _at_equal_cost(name, size, folder / name, device)


def main_rows(size: Size, folder: Path, device: Device) -> Iterator[Row]:
    """Yield the rows of 3D_FCN_PPM."""
    jobs = jobs_of(size, NetConfig(), folder / MAIN_NETWORK, device)
    with ExitStack() as stack:
        turns = _taken(jobs, size.network_rounds, stack)
        ours = turns[OURS]
        yield from _times(turns, device)
        yield from _by_openvino(jobs, turns)
        yield from _per_operation(jobs, turns)
        yield from _agreement(ours, turns[PLAIN], turns[_fast_name(device)])
        yield from _memory(turns, device)
        yield from _limits(ours, size, device)


def jobs_of(size: Size, config: NetConfig, folder: Path, device: Device) -> list[StepJob]:
    """Return the jobs of all implementations: ours first, and MONAI's whether it is installed or not."""
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
    eager = replace(ours, name=PLAIN, network="plain", is_fast=False, keeps_memory=False)
    aligned = replace(eager, name=fast, is_fast=True)
    peer = replace(eager, name="segresnet float32", network="segresnet")
    fast_peer = replace(peer, name=fast.replace("plain", "segresnet"), is_fast=True)
    if device.torch_device.type == "cuda":
        same = [replace(eager, name=f"{PLAIN}, TF32", allows_tf32=True)]
    else:
        same = [_keeping(aligned), _keeping(fast_peer), replace(ours, name="openvino", network="openvino")]
    return [ours, eager, aligned, peer, fast_peer, *same]


def _keeping(job: StepJob) -> StepJob:
    """Return the job with our setting of the memory allocator, so that a ratio shows how much the setting matters."""
    return replace(job, name=f"{job.name}, memory kept", keeps_memory=True)


def _fast_name(device: Device) -> str:
    return f"plain {str(device.dtype).removeprefix('torch.')}, channels-last"


def _taken(jobs: Sequence[StepJob], num_rounds: int, stack: ExitStack) -> dict[str, Turns]:
    """Return the measurements of all installed implementations, which are warmed up and measured in turn."""
    _write_weights(jobs[0])
    turns = [_start(job, stack) for job in jobs if _can_run(job)]
    for turn in turns:
        turn.loss = turn.ask("check")["loss"]
    for _ in range(num_rounds):
        for task in _TASKS:
            for turn in turns:
                if task in turn.tasks:
                    turn.seconds[task].append(turn.ask(task)["s"])
    return {turn.job.name: turn for turn in turns}


def _can_run(job: StepJob) -> bool:
    return job.network not in _LIBRARIES or is_installed(_LIBRARIES[job.network])


def _start(job: StepJob, stack: ExitStack) -> Turns:
    process = stack.enter_context(started("study.bench.networks.network_process", asdict(job), _ENVIRONMENT))
    return Turns(job, process, answer(process, job.name, job))


@torch.no_grad()
def _write_weights(job: StepJob) -> None:
    """Write initial weights. Running statistics are those of the image, so that features have usual values."""
    net = plain(build_net(NetConfig(**job.net), KIDNEY_TUMOR)).train()
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


def _by_openvino(jobs: Iterable[StepJob], turns: dict[str, Turns]) -> Iterator[Row]:
    ours = turns[OURS]
    for job in jobs:
        if job.network == "openvino":
            peer = turns.get(job.name)
            taken = peer.milliseconds("infer") if peer else None
            note = f"labels equal to ours: {1 - _differing(peer, ours):.4%}" if peer else "not installed"
            yield Row("network", _TASKS["infer"], "ms", ours.milliseconds("infer"), job.name, taken, "less", note)


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
                peer = turns.get(job.name)
                rate = peer.gflop_per_s(task) if peer else None
                note = _operations(ours, peer, task) if peer else "not installed"
                yield Row(
                    "network",
                    f"{what}, per operation",
                    "GFLOP/s",
                    ours.gflop_per_s(task),
                    job.name,
                    rate,
                    note=note,
                )


def _operations(ours: Turns, peer: Turns, task: str) -> str:
    return f"{ours.gflop[task]:.1f} GFLOP; MONAI's of {PEER_WIDTH} filters, the nearest width: {peer.gflop[task]:.1f}"


def _agreement(ours: Turns, reference: Turns, peer: Turns) -> Iterator[Row]:
    """Yield the errors of ours and of the plain network in the same number format, against the latter in float32."""
    note = "against plain float32"
    name = peer.job.name
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
    """Return the root mean square and the maximum of the difference of two logits (B, C, D, H, W).

    Both are divided by the standard deviation of `reference` within a class.
    """
    spread = float((reference - reference.mean(axis=(0, 2, 3, 4), keepdims=True)).std())
    error = np.abs(logits - reference)
    return float(np.sqrt(np.square(error).mean())) / spread, float(error.max()) / spread


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine of the angle between two gradients."""
    # In float32 the sums over all parameters would lose digits.
    a = one.astype(np.float64)
    b = other.astype(np.float64)
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
            yield Row("network", PEAK_MEMORY, "MB", peaks[OURS], name, peak, "less", note)


def _limits(ours: Turns, size: Size, device: Device) -> Iterator[Row]:
    """Yield the rows about what limits a training step and an inference: memory traffic and operations.

    A training step at least writes and reads each activation that it keeps for the backward pass once. The share of the
    roofline (Williams et al., 2009) is the least time that memory and operations allow, divided by the time taken. That
    of inference counts operations only, because its features may stay in the cache.
    """
    # `describe` counts float32, hence the division by four bytes.
    kept_mb = (
        describe(NetConfig(**ours.job.net), KIDNEY_TUMOR, ours.job.shape).training_memory_mb * device.dtype.itemsize / 4
    )
    moved_gb = 2 * kept_mb * ours.job.batch_size * 2**20 / 1e9
    copied = median(ours.ask("copy")["gb_per_s"] for _ in range(size.network_rounds))
    moved_s = moved_gb / copied
    share = moved_s / median(ours.seconds["train"])
    note = f"kept activations written and read once: {moved_gb:.2f} GB; a copy moves {copied:.1f} GB/s"
    yield Row("network", "training step, share of the memory's speed", "share", share, note=note)
    rate = median(ours.ask("product")["gflop_per_s"] for _ in range(size.network_rounds))
    note = f"a product of matrices in {str(device.dtype).removeprefix('torch.')}: {rate:.4g} GFLOP/s"
    for task, least_s in (("train", moved_s), ("infer", 0.0)):
        roof = max(least_s, ours.gflop[task] / rate) / median(ours.seconds[task])
        yield Row("network", f"{_TASKS[task]}, share of the roofline", "share", roof, note=note)


def _at_equal_cost(name: NetName, size: Size, folder: Path, device: Device) -> Iterator[Row]:
    width = equal_cost_width(name, NetConfig(), KIDNEY_TUMOR, size.network_shape)
    jobs = jobs_of(size, NetConfig(name=name, width=width), folder, device)[:2]
    with ExitStack() as stack:
        turns = _taken(jobs, size.network_rounds, stack)
        ours = turns[OURS]
        peer = turns[PLAIN]
    for task, what in _TASKS.items():
        note = f"width {width}, {ours.gflop[task]:.1f} GFLOP"
        yield Row("network", f"{what}, {name}", "ms", *_beside(ours, PLAIN, peer, task), "less", note)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
