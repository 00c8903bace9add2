"""The choice of a backend: the one that a user names, or the one that is measured to be the fastest here."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import torch
from torch import Tensor

from renalnet.config.inference import BackendName
from renalnet.errors import ConfigError, nearest
from renalnet.inference.backends.backend import Backend, Prepared, Workload
from renalnet.inference.backends.openvino_backend import OpenVinoBackend, is_installed
from renalnet.inference.backends.torch_backend import TorchBackend
from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device
from renalnet.runtime.log import get_logger

_PREPARATION_S: Final = 10.0
"""Seconds that PyTorch must need for the sub-volumes of a shape before OpenVINO is tried: about what the conversion of
a network takes. A short prediction would end before."""
_LEAST_AGREEMENT: Final = {torch.float32: 0.9999, torch.bfloat16: 0.995}
"""Least share of the voxels of a sub-volume to which a backend gives PyTorch's labels, by number format."""
_log = get_logger(__name__)


def backend_of(name: str, nets: Sequence[SegmentationNet], plain: Sequence[SegmentationNet], device: Device) -> Backend:
    """Return the backend of a model.

    Args:
        name: `torch`; `openvino`; or `auto` for OpenVINO where it is installed, the device is a processor, and it takes
            less time for a sub-volume than PyTorch.
        nets: the networks in their folded form, on the device.
        plain: the same networks as they are trained, in evaluation mode on the processor.
        device: device and number format.

    Raises:
        ConfigError: the name is unknown, or OpenVINO is named but is not installed or the device is a GPU.
    """
    if name not in get_args(BackendName):
        raise ConfigError(f"backend '{name}': unknown; {nearest(name, get_args(BackendName))}")
    by_torch = TorchBackend(nets, device)
    if name == "torch":
        return by_torch
    obstacle = _obstacle(device)
    if obstacle is None:
        other = OpenVinoBackend(plain, use_bfloat16=device.use_bfloat16)
        least = _LEAST_AGREEMENT[device.dtype]
        return CheckedBackend(by_torch, other, least) if name == "openvino" else FastestBackend(by_torch, other, least)
    if name == "openvino":
        raise ConfigError(f"backend openvino: {obstacle}, or use backend torch")
    return by_torch


def _obstacle(device: Device) -> str | None:
    """Return why OpenVINO cannot be used, and what helps; None if it can."""
    if device.torch_device.type != "cpu":
        return "it computes on a processor only, and this machine has a GPU; set CUDA_VISIBLE_DEVICES to nothing"
    return None if is_installed() else 'not installed; install it with `pip install ".[openvino]"` in the clone'


@dataclass(frozen=True)
class CheckedBackend:
    """Another backend than PyTorch, whose labels are compared with PyTorch's on the first sub-volume of each ROI."""

    by_torch: Backend
    other: Backend
    least_agreement: float
    """Least share of equal labels, 0 to 1."""

    def prepared(self, work: Workload) -> Prepared:
        """Return the networks by the other backend. Raises ConfigError if its labels differ from PyTorch's."""
        prepared = self.other.prepared(work)
        share = agreement(self.by_torch.prepared(work), prepared, work.example)
        if share < self.least_agreement:
            raise ConfigError(
                f"backend {prepared.backend}: its labels are PyTorch's in {share:.4%} of the voxels of a sub-volume, "
                f"at least {self.least_agreement:.2%} are needed; use backend torch"
            )
        return prepared


class FastestBackend:
    """PyTorch or another backend, whichever takes less time for a sub-volume of an ROI.

    Both are timed once for each shape of sub-volumes, in turns, after PyTorch has worked on it for some seconds. An ROI
    is computed by one backend. Another backend that fails, or whose labels differ, is not used.
    """

    def __init__(
        self, by_torch: Backend, other: Backend, least_agreement: float, preparation_s: float = _PREPARATION_S
    ) -> None:
        """Prefer `other` only if at least a share `least_agreement` of its labels are PyTorch's.

        It is not prepared before PyTorch has worked, or will work, for `preparation_s` on sub-volumes of a shape.
        """
        self._by_torch = by_torch
        self._other = other
        self._least_agreement = least_agreement
        self._preparation_s = preparation_s
        self._torch_s: dict[torch.Size, float] = {}
        self._spent_s: dict[torch.Size, float] = {}
        self._fastest: dict[torch.Size, Backend] = {}

    def prepared(self, work: Workload) -> Prepared:
        """Return the networks by the backend of this shape."""
        shape = work.example.shape
        if shape not in self._fastest and self._is_worth_a_trial(work):
            self._fastest[shape] = self._other if self._is_other_faster(work) else self._by_torch
        return self._fastest.get(shape, self._by_torch).prepared(work)

    def _is_worth_a_trial(self, work: Workload) -> bool:
        shape = work.example.shape
        if shape not in self._torch_s:
            self._torch_s[shape] = seconds(self._by_torch.prepared(work), work.example)
        self._spent_s[shape] = self._spent_s.get(shape, 0.0) + work.count * self._torch_s[shape]
        return self._spent_s[shape] >= self._preparation_s

    def _is_other_faster(self, work: Workload) -> bool:
        by_torch = self._by_torch.prepared(work)
        try:
            other = self._other.prepared(work)
            share = agreement(by_torch, other, work.example)
        except Exception as error:  # noqa: BLE001 - an optional library may fail in any way, and PyTorch is at hand
            _log.debug("%s failed", self._other, exc_info=True)
            _log.warning("the other backend failed with %s: %s; PyTorch is used", type(error).__name__, error)
            return False
        if share < self._least_agreement:
            _log.warning("%s gives PyTorch's labels to only %.4f of the voxels; not used", other.backend, share)
            return False
        turns = [(seconds(by_torch, work.example), seconds(other, work.example)) for _ in range(2)]
        torch_s, other_s = (min(times) for times in zip(*turns, strict=True))
        _log.debug("a sub-volume takes %.3f s by %s, %.3f s by %s", torch_s, by_torch.backend, other_s, other.backend)
        return bool(other_s < torch_s)


@torch.inference_mode()
def seconds(prepared: Prepared, sub_volume: Tensor) -> float:
    """Return the seconds that all networks take for a sub-volume (1, 1, d, h, w)."""
    start = time.perf_counter()
    for forward in prepared.forwards:
        forward(sub_volume)
    return time.perf_counter() - start


@torch.inference_mode()
def agreement(first: Prepared, second: Prepared, sub_volume: Tensor) -> float:
    """Return the share of a sub-volume's voxels with equal labels, 0 to 1: the least over the networks."""
    pairs = zip(first.forwards, second.forwards, strict=True)
    shares = [(one(sub_volume).argmax(dim=1) == other(sub_volume).argmax(dim=1)).float().mean() for one, other in pairs]
    return min(map(float, shares))
