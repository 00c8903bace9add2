"""Stitched inference of one implementation, in its own process and on request.

As a program, this module builds the implementation with the weights in its folder, and answers each word of its input
with a line of JSON: `run` segments the ROI, `peak` gives the peak memory above that of the idle process.
"""

import json
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from renalnet.config import KIDNEY_TUMOR, NetConfig, Normalisation, PrepareConfig, StitchConfig
from renalnet.inference.backends.choice import backend_of
from renalnet.inference.segmentation import segment_by
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.folded import folded
from renalnet.runtime.device import Device, pick_device
from renalnet.runtime.machine import keep_memory, num_cores
from renalnet.types import HuArray, LabelArray, Shape
from study.bench.measuring.processes import peak_mb
from study.bench.measuring.synthetic_rois import RoiPainter
from study.bench.networks.plain import plain

WEIGHTS: Final = "trained.safetensors"
Segment = Callable[[HuArray], LabelArray]


@dataclass(frozen=True)
class StitchJob:
    """An implementation and the ROI that it segments."""

    name: str
    is_ours: bool
    shape: Shape
    folder: str
    """Folder of the weights, and of the labels to compare."""
    is_fast: bool = True
    """Whether to use channels-last memory and the device's fastest number format; else float32 in PyTorch's order."""
    at_once: int = 1
    """Number of sub-volumes that MONAI passes through the network at once."""
    keeps_memory: bool = False
    """Whether freed memory is kept for the next sub-volume."""
    backend: Literal["torch", "openvino"] = "torch"
    """What computes our network."""
    num_rois: int = 1
    """Number of ROIs of `shape` that are stacked to a longer one."""


def normalisation() -> Normalisation:
    """Return the normalisation of the synthetic ROIs."""
    config = PrepareConfig()
    return Normalisation(config.hu_min, config.hu_max, mean=0.3)


def _ours(net: SegmentationNet, device: Device, job: StitchJob) -> Segment:
    folded_net = folded(device.place(deepcopy(net)), device.dtype)
    backend = backend_of(job.backend, [folded_net], [net.eval()], device)
    return lambda image: segment_by(backend, image, normalisation(), StitchConfig(), net.num_classes)[0].labels


def _monai(net: SegmentationNet, device: Device, job: StitchJob) -> Segment:
    """Return MONAI's sliding window with our sub-volumes and stride: the class with the largest mean logit."""
    window = import_module("monai.inferers").sliding_window_inference
    placed = device.place(plain(net, is_channels_last=job.is_fast).eval())
    config = StitchConfig()
    # MONAI takes the overlap as a share of the sub-volume, not the stride.
    overlap = [1 - stride / size for stride, size in zip(config.stride, config.tile, strict=True)]

    def predict(sub_volumes: Tensor) -> Tensor:
        logits: Tensor = placed(device.tensor(sub_volumes) if job.is_fast else sub_volumes)
        return logits

    @torch.inference_mode()
    def run(image: HuArray) -> LabelArray:
        voxels = torch.from_numpy(normalisation().apply(image))[None, None].to(device.torch_device)
        with device.autocast():
            logits = window(voxels, config.tile, job.at_once, predict, overlap=overlap)
        labels: LabelArray = logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        return labels

    return run


def built(job: StitchJob) -> Segment:
    """Configure this process for an implementation and build it."""
    if job.keeps_memory:
        keep_memory()
    torch.set_num_threads(num_cores())
    found = pick_device()
    device = Device(found.torch_device, found.use_bfloat16 and job.is_fast)
    net = build_net(NetConfig(), KIDNEY_TUMOR)
    net.load_state_dict(load_file(Path(job.folder) / WEIGHTS))
    return _ours(net, device, job) if job.is_ours else _monai(net, device, job)


class _Answers:
    """Answers to the words of the input."""

    def __init__(self, job: StitchJob) -> None:
        self._job = job
        self._segment = built(job)
        image = RoiPainter(job.shape).paint(0)[0]
        self._image = np.concatenate([image] * job.num_rois)
        self._idle_mb = _held_mb()

    def reply(self, word: str) -> dict[str, float]:
        if word == "peak":
            return {"mb": _peak_mb() - self._idle_mb}
        assert word == "run", f"unknown word '{word}'"
        started = time.perf_counter()
        # Saving the labels is not part of the time.
        labels = self._segment(self._image)
        seconds = time.perf_counter() - started
        np.save(Path(self._job.folder) / f"{self._job.name}.npy", labels)
        return {"s": seconds}


def _held_mb() -> float:
    """Return the memory in use now: that of the GPU if there is one, else that of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _peak_mb() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_mb()


def _tell(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Build the implementation of the job in the first argument, JSON, and answer until the input ends."""
    values = json.loads(sys.argv[1])
    answers = _Answers(StitchJob(**{**values, "shape": tuple(values["shape"])}))
    # The parent waits for this line, so that building is not part of the first time.
    _tell({})
    for line in sys.stdin:
        _tell(answers.reply(line.strip()))


if __name__ == "__main__":
    main()
