"""Stitched inference of an ROI, compared with MONAI's sliding window and OpenVINO: same weights, sub-volumes, stride.

The weights are trained for a minute on synthetic ROIs, because the labels of an untrained network depend on rounding.
All implementations run at the same time, each in its own process, and take turns.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file

from renalnet.config import KIDNEY_TUMOR, LossConfig, NetConfig, StitchConfig
from renalnet.nets import build_net
from renalnet.runtime.device import has_gpu, pick_device
from renalnet.runtime.machine import keep_memory, num_cores
from renalnet.train.losses.supervision import loss_of, supervised_loss
from renalnet.types import LabelArray
from study.bench.measuring.processes import Process, answer, ask, is_installed, started
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import RoiPainter
from study.bench.measuring.table import Row
from study.bench.networks.inference_process import WEIGHTS, StitchJob, normalisation

_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive"}
"""Environment of every implementation, as in `study.bench.networks.network`."""
_NUM_ROIS: Final = 5
"""Number of ROIs that are stacked to a long one."""
_CROP: Final = (32, 64, 64)
_RATE: Final = 0.1


@dataclass
class _Turn:
    """The process of one implementation and its times, in the order of the rounds."""

    job: StitchJob
    process: Process
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        self.seconds.append(ask(self.process, "run", self.job.name, self.job)["s"])

    @property
    def peak_mb(self) -> float:
        return ask(self.process, "peak", self.job.name, self.job)["mb"]

    @property
    def labels(self) -> LabelArray:
        labels: LabelArray = np.load(Path(self.job.folder) / f"{self.job.name}.npy")
        return labels


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield times, memory above that of the idle process, and agreement; then the memory for a longer ROI."""
    train(size, folder)
    ours, *peers = _jobs(size, folder)
    with ExitStack() as stack:
        first, *others = [_start(job, stack) for job in (ours, *peers)]
        for _ in range(size.inference_rounds + 1):
            for turn in (first, *others):
                turn.run()
        yield from _beside(first, others)
    yield _growth(ours)


def _jobs(size: Size, folder: Path) -> list[StitchJob]:
    """Return the jobs of all installed implementations, ours first."""
    ours = StitchJob("renalnet", True, size.roi, str(folder), keeps_memory=True)
    by_openvino = [replace(ours, name="openvino", backend="openvino")] if _has_openvino() else []
    if not is_installed("monai"):
        return [ours, *by_openvino]
    plain = StitchJob("monai float32", False, size.roi, str(folder), is_fast=False)
    fast = replace(plain, name="monai, our format and order", is_fast=True)
    kept = replace(fast, name=f"{fast.name}, memory kept", keeps_memory=True)
    four = replace(plain, name="monai float32, four at once", at_once=4)
    return [ours, plain, fast, kept, four, *by_openvino]


def _has_openvino() -> bool:
    return is_installed("openvino") and not has_gpu()


def _start(job: StitchJob, stack: ExitStack) -> _Turn:
    process = stack.enter_context(started("study.bench.networks.inference_process", asdict(job), _ENVIRONMENT))
    answer(process, job.name, job)
    return _Turn(job, process)


def _beside(ours: _Turn, others: Sequence[_Turn]) -> Iterator[Row]:
    about = f"{_by(ours.job.shape)}, sub-volumes of {_by(StitchConfig().tile)}, step {_by(StitchConfig().stride)}"
    for other in others:
        mine, its = (median(turn.seconds[1:]) for turn in (ours, other))  # the first one warms up
        yield Row("inference", "an ROI", "s", mine, other.job.name, its, "less", about)
    mine_mb = ours.peak_mb
    for other in others:
        note = "peak above the idle process"
        yield Row("inference", "memory", "MB", mine_mb, other.job.name, other.peak_mb, "less", note)
    for other in filter(_has_own_labels, others):
        share = float((ours.labels == other.labels).mean())
        inside = (ours.labels > 0) | (other.labels > 0)
        there = float((ours.labels == other.labels)[inside].mean())
        note = f"{inside.mean():.1%} of the voxels are kidney or tumor; there {there:.4f}"
        yield Row("inference", f"labels equal to those of {other.job.name}", "share", share, note=note)


def _has_own_labels(turn: _Turn) -> bool:
    """Return whether labels may differ from those of other jobs: memory and sub-volumes at once change no label."""
    return turn.job.is_ours or not (turn.job.keeps_memory or turn.job.at_once > 1)


def _growth(job: StitchJob) -> Row:
    """Return the row about memory for an ROI `_NUM_ROIS` times as long."""
    peaks = []
    for number in (1, _NUM_ROIS):
        with ExitStack() as stack:
            turn = _start(replace(job, num_rois=number), stack)
            turn.run()
            peaks.append(turn.peak_mb)
    slices = job.shape[0] * _NUM_ROIS
    note = f"{peaks[0]:.0f} MB with {job.shape[0]}; what grows is the result, 13 bytes a voxel"
    return Row("inference", f"memory with {slices} slices", "MB", peaks[1], note=note)


def train(size: Size, folder: Path) -> None:
    """Train 3D_FCN_PPM for some hundred steps on crops of three synthetic ROIs, and write its weights."""
    keep_memory()
    torch.set_num_threads(num_cores())
    device = pick_device()
    rng = np.random.default_rng(0)
    net = device.place(build_net(NetConfig(), KIDNEY_TUMOR, seed=0)).train()
    painter = RoiPainter(size.roi)
    scale = normalisation()
    rois = [painter.paint(seed) for seed in (1, 2, 3)]
    optimizer = torch.optim.SGD(net.parameters(), _RATE, momentum=0.9, nesterov=True)
    for step in range(size.inference_steps):
        if step == 3 * size.inference_steps // 4:
            optimizer.param_groups[0]["lr"] = _RATE / 10
        crops = [_crop(*rois[int(rng.integers(len(rois)))], rng) for _ in range(2)]
        image, label = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
        with device.autocast():
            outputs = net.training_logits(device.tensor(torch.from_numpy(scale.apply(image.numpy()))[:, None]))
        placed = label.to(device.torch_device)
        loss = supervised_loss(outputs, placed, loss_of(LossConfig(), KIDNEY_TUMOR, placed))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # safetensors takes contiguous tensors only, and the network is channels-last.
    save_file({name: value.cpu().contiguous() for name, value in net.state_dict().items()}, folder / WEIGHTS)


def _crop(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a crop around a random voxel of kidney or tumor."""
    inside = np.argwhere(label > 0)
    center = inside[int(rng.integers(len(inside)))]
    crop = [min(length, wanted) for length, wanted in zip(label.shape, _CROP, strict=True)]
    low = [int(np.clip(c - n // 2, 0, length - n)) for c, n, length in zip(center, crop, label.shape, strict=True)]
    region = tuple(slice(at, at + n) for at, n in zip(low, crop, strict=True))
    return image[region], label[region]


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
