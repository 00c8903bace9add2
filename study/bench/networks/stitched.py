"""Stitched inference of one contender in a process of its own, as it is asked.

Run as a program, this module builds a contender with the weights of its folder and answers each word of its input with
a line of JSON: `run` segments the ROI, `peak` says how far memory has risen above that of the idle process.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from renalnet.config import NetConfig, PrepareConfig, StitchConfig
from renalnet.data.store.manifest import Normalisation
from renalnet.inference.segmentation import segment
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
    """A contender and the ROI that it segments."""

    contender: str
    is_ours: bool
    shape: Shape
    folder: str
    """Holds the weights, and takes the labels."""
    is_fast: bool = True
    """In the number format that the device computes fastest in and channels-last, else in float32 as PyTorch comes."""
    at_once: int = 1
    """Sub-volumes, of MONAI's."""
    keeps_memory: bool = False
    """Freed memory is kept for the next sub-volume."""
    num_rois: int = 1
    """Of `shape` on top of each other, to see what grows with the length."""


def normalisation() -> Normalisation:
    """Of the painted ROIs."""
    config = PrepareConfig()
    return Normalisation(config.hu_min, config.hu_max, mean=0.3)


def _ours(net: SegmentationNet, device: Device) -> Segment:
    nets = [folded(device.place(net), device.dtype)]
    return lambda image: segment(nets, image, normalisation(), StitchConfig(), device).labels


def _monai(net: SegmentationNet, device: Device, job: StitchJob) -> Segment:
    """Its sliding window at our sub-volumes and step, the mean of the logits, the class of the largest."""
    window = import_module("monai.inferers").sliding_window_inference
    placed = device.place(plain(net, is_channels_last=job.is_fast).eval())
    config = StitchConfig()
    overlap = [1 - step / size for step, size in zip(config.stride, config.tile, strict=True)]

    def predict(tiles: Tensor) -> Tensor:
        logits: Tensor = placed(device.tensor(tiles) if job.is_fast else tiles)
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
    """The contender, as it is used."""
    if job.keeps_memory:
        keep_memory()
    torch.set_num_threads(num_cores())
    found = pick_device()
    device = Device(found.torch_device, found.use_bfloat16 and job.is_fast)
    net = build_net(NetConfig())
    net.load_state_dict(load_file(Path(job.folder) / WEIGHTS))
    return _ours(net, device) if job.is_ours else _monai(net, device, job)


class _Answers:
    """What the words of the input ask for."""

    def __init__(self, job: StitchJob) -> None:
        self._job, self._segment = job, built(job)
        image = RoiPainter(job.shape).paint(0)[0]
        self._image = np.concatenate([image] * job.num_rois)
        self._idle_mb = _held_mb()

    def reply(self, word: str) -> dict[str, float]:
        if word == "peak":
            return {"mb": _peak_mb() - self._idle_mb}
        assert word == "run", "a word that no contender knows"
        started = time.perf_counter()
        labels = self._segment(self._image)
        seconds = time.perf_counter() - started
        np.save(Path(self._job.folder) / f"{self._job.contender}.npy", labels)
        return {"s": seconds}


def _held_mb() -> float:
    """Memory held now: the device's where it is a GPU."""
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
    """Build the contender of the job given as JSON, and answer until the input ends."""
    values = json.loads(sys.argv[1])
    answers = _Answers(StitchJob(**{**values, "shape": tuple(values["shape"])}))
    _tell({})
    for line in sys.stdin:
        _tell(answers.reply(line.strip()))


if __name__ == "__main__":
    main()
