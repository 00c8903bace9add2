"""Training steps and inference of one implementation of a network, in its own process and on request.

As a program, this module builds the implementation, writes its number of operations, and answers each word of its input
with a line of JSON. It sleeps between the words, so that implementations take turns on the same machine.
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
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from renalnet.config import KIDNEY_TUMOR, LossConfig, NetConfig, Normalisation, OptimConfig, PrepareConfig
from renalnet.inference.backends.backend import Forward, Workload
from renalnet.inference.backends.openvino_backend import OpenVinoBackend
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.folded import folded
from renalnet.runtime.device import Device, pick_device
from renalnet.runtime.machine import keep_memory, num_cores
from renalnet.train.losses.supervision import loss_of, supervised_loss
from renalnet.types import Shape
from study.bench.measuring.processes import peak_mb
from study.bench.measuring.synthetic_rois import RoiPainter
from study.bench.networks.plain import plain

WEIGHTS: Final = "weights.safetensors"
PEER_WIDTH: Final = 8
"""Filters of MONAI's SegResNet with the cost nearest to that of 3D_FCN_PPM. Its norm needs a multiple of 8."""
_COPIED_BYTES: Final = {"cpu": 2**28, "cuda": 2**30}
"""Bytes of a copy that measures the speed of memory: many times the size of the last cache."""
_PRODUCT_EDGE: Final = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices whose product measures the speed of operations."""
Task = Literal["train", "infer"]
Outputs = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class StepJob:
    """An implementation of a network and its input."""

    name: str
    network: Literal["renalnet", "plain", "segresnet", "openvino"]
    """What computes: OpenVINO computes the inference of ours, and trains as ours."""
    net: dict[str, Any]
    """Fields of the `NetConfig`. MONAI's network ignores them and has `PEER_WIDTH`."""
    shape: Shape
    batch_size: int
    folder: str
    """Folder of the initial weights, and of the outputs to compare."""
    is_fast: bool = False
    """Whether to use channels-last memory and the device's fastest number format; else float32 in PyTorch's order."""
    keeps_memory: bool = False
    """Whether freed memory is kept for the next step."""
    allows_tf32: bool = False
    """Whether a GPU may round the factors of float32 products to TF32."""


class Implementation:
    """A network that can be trained and used for inference."""

    def __init__(self, job: StepJob) -> None:
        self.job = job
        found = pick_device()
        self._device = Device(found.torch_device, found.use_bfloat16 and job.is_fast)
        self._net = self._device.place(_built(job))
        self._outputs = _outputs_of(self._net)
        self._optimizer = _optimizer(self._net)
        self.image, self.label = self._batch(job.shape, job.batch_size)
        self._frozen = _frozen(self._net, self.image, job, self._device)

    def train(self) -> float:
        """Make a step of SGD as in `renalnet.train` and return the loss before it."""
        return self._step(self.image, self.label)

    def infer(self) -> Tensor:
        """Return the logits (B, 3, D, H, W) of the images."""
        self._net.eval()
        with torch.inference_mode(), self._device.autocast():
            logits: Tensor = self._frozen(self.image)
        return logits

    def seconds(self, task: Task) -> float:
        """Return the time of one training step or inference."""
        return self._timed(self.train if task == "train" else self.infer)

    def peak_mb(self) -> float:
        """Return the peak memory: on a GPU of a training step on the paper's crops, on a CPU of this process so far."""
        if self._device.torch_device.type != "cuda":
            return peak_mb()
        optim = OptimConfig()
        batch = self._batch((64, 150, 150), optim.batch_size)
        torch.cuda.reset_peak_memory_stats()
        self._step(*batch)
        return torch.cuda.max_memory_allocated() / 2**20

    def copied_gb_per_s(self) -> float:
        """Return the speed of a copy that is larger than any cache, bytes read plus bytes written, the best of five."""
        source = torch.ones(_COPIED_BYTES[self._device.torch_device.type] // 4, device=self._device.torch_device)
        target = torch.zeros_like(source)
        return 2 * source.nbytes / min(self._timed(lambda: target.copy_(source)) for _ in range(5)) / 1e9

    def product_gflop_per_s(self) -> float:
        """Return the speed of a product of two square matrices in the device's number format, the best of five."""
        edge = _PRODUCT_EDGE[self._device.torch_device.type]
        matrix = torch.ones(edge, edge, device=self._device.torch_device, dtype=self._device.dtype)
        return 2 * edge**3 / min(self._timed(lambda: matrix @ matrix) for _ in range(5)) / 1e9

    def check(self) -> float:
        """Write the logits and the gradient of the initial weights, make a step, and return the loss after it.

        It must be called before any other training step.
        """
        folder = Path(self.job.folder)
        # Before the step, which changes weights and running statistics.
        np.save(folder / f"{self.job.name}-logits.npy", self.infer().float().cpu().numpy())
        self.train()
        # Clipping in `train` scales the gradient, which changes no cosine.
        gradients = [
            parameter.grad.flatten().cpu() for parameter in self._net.parameters() if parameter.grad is not None
        ]
        np.save(folder / f"{self.job.name}-gradient.npy", torch.cat(gradients).numpy())
        return self.train()

    def gflop(self) -> tuple[float, float]:
        """Return the operations of an inference and of a training step, in 10⁹."""
        # On the meta device operations are counted without being computed.
        net = deepcopy(self._net).to("meta").train()
        counter = FlopCounterMode(display=False)
        with counter:
            outputs = _outputs_of(net)(torch.empty(self.image.shape, device="meta"))
            inference = counter.get_total_flops()
            torch.stack([output.sum() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
        return inference / 1e9, counter.get_total_flops() / 1e9

    def _step(self, image: Tensor, label: Tensor) -> float:
        self._net.train()
        with self._device.autocast():
            outputs = self._outputs(image)
        loss = supervised_loss(outputs, label, loss_of(LossConfig(), KIDNEY_TUMOR, label))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), OptimConfig().clip_norm)
        self._optimizer.step()
        return float(loss.detach())

    def _batch(self, shape: Shape, batch_size: int) -> tuple[Tensor, Tensor]:
        image, label = (part.to(self._device.torch_device) for part in painted(shape, batch_size))
        return (self._device.tensor(image) if self.job.is_fast else image), label

    def _timed(self, work: Callable[[], object]) -> float:
        # A GPU computes after the call has returned.
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self._device.torch_device.type == "cuda":
            torch.cuda.synchronize()


def painted(shape: Shape, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return normalised images (B, 1, D, H, W) and labels (B, D, H, W), the same at each call."""
    painter = RoiPainter(shape)
    config = PrepareConfig()
    images, labels = zip(*map(painter.paint, range(batch_size)), strict=True)
    normalised = Normalisation(config.hu_min, config.hu_max, mean=0.3).apply(np.stack(images))
    return torch.from_numpy(normalised)[:, None], torch.from_numpy(np.stack(labels))


def _built(job: StepJob) -> nn.Module:
    if job.network == "segresnet":
        torch.manual_seed(0)
        net: nn.Module = import_module("monai.networks.nets").SegResNet(3, PEER_WIDTH, 1, KIDNEY_TUMOR.num_classes)
        return net.to(memory_format=torch.channels_last_3d) if job.is_fast else net  # type: ignore[call-overload]
    ours = build_net(NetConfig(**job.net), KIDNEY_TUMOR)
    ours.load_state_dict(load_file(Path(job.folder) / WEIGHTS))
    return plain(ours, is_channels_last=job.is_fast) if job.network == "plain" else ours


def _frozen(net: nn.Module, image: Tensor, job: StepJob, device: Device) -> Forward:
    """Return the network for inference: ours is folded or converted, as in `renalnet.inference`."""
    if job.network == "renalnet" and isinstance(net, SegmentationNet):
        return folded(net, device.dtype).eval()
    if job.network == "openvino" and isinstance(net, SegmentationNet):
        backend = OpenVinoBackend([net.eval()], use_bfloat16=device.use_bfloat16)
        return backend.prepared(Workload(image[:1].contiguous(), len(image))).forwards[0]
    return net


def _outputs_of(net: nn.Module) -> Outputs:
    return net.training_logits if isinstance(net, SegmentationNet) else lambda image: [net(image)]


def _optimizer(net: nn.Module) -> torch.optim.Optimizer:
    optim = OptimConfig()
    return torch.optim.SGD(
        net.parameters(), optim.base_rate, optim.momentum, weight_decay=optim.weight_decay, fused=True
    )


def prepare(job: StepJob) -> Implementation:
    """Configure this process for an implementation and build it."""
    if job.keeps_memory:
        keep_memory()
    torch.set_num_threads(num_cores())
    torch.backends.cuda.matmul.allow_tf32 = job.allows_tf32
    torch.backends.cudnn.allow_tf32 = job.allows_tf32
    return Implementation(job)


def reply(implementation: Implementation, word: str) -> dict[str, float]:
    """Return the answer to a word of the input."""
    if word == "check":
        return {"loss": implementation.check()}
    if word == "peak":
        return {"mb": implementation.peak_mb()}
    if word == "copy":
        return {"gb_per_s": implementation.copied_gb_per_s()}
    if word == "product":
        return {"gflop_per_s": implementation.product_gflop_per_s()}
    assert word in ("train", "infer"), f"unknown word '{word}'"
    return {"s": implementation.seconds("train" if word == "train" else "infer")}


def _tell(values: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Build the implementation of the job in the first argument, JSON, and answer until the input ends."""
    values = json.loads(sys.argv[1])
    implementation = prepare(StepJob(**{**values, "shape": tuple(values["shape"])}))
    inference, training = implementation.gflop()
    _tell({"infer": inference, "train": training})
    for line in sys.stdin:
        _tell(reply(implementation, line.strip()))


if __name__ == "__main__":
    main()
