"""Networks by PyTorch, on any device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from renalnet.inference.backends.backend import Forward, Prepared, Workload
from renalnet.nets import SegmentationNet
from renalnet.precision.routes import route_around_faults
from renalnet.runtime.device import Device


@dataclass(frozen=True)
class TorchBackend:
    """Networks that PyTorch computes."""

    nets: Sequence[SegmentationNet]
    """One network, or the members of an ensemble; folded, or as they are trained."""
    device: Device
    """Device and number format of the networks."""

    def prepared(self, work: Workload) -> Prepared:
        """Return the networks, whose convolutions are right for the shape of the example's."""
        for net in self.nets:
            route_around_faults(net, work.example.shape, self.device, is_training=False)
        number_format = str(self.device.dtype).removeprefix("torch.")
        forwards = tuple(_forward(net, self.device) for net in self.nets)
        return Prepared(f"torch {torch.__version__}, {number_format}", forwards, self.device.torch_device)


def _forward(net: SegmentationNet, device: Device) -> Forward:
    # The trainer leaves its network in training mode, in which BatchNorm would use the sub-volumes' own statistics.
    net.eval()

    def forward(sub_volumes: Tensor) -> Tensor:
        with device.autocast():
            logits: Tensor = net(device.tensor(sub_volumes))
        return logits

    return forward
