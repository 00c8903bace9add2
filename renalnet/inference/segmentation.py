"""Stitched inference over a region of interest by one network or an ensemble."""

from collections.abc import Sequence

from torch import Tensor

from renalnet.config import Normalisation, StitchConfig
from renalnet.inference.stitching import Forward, Stitched, stitch
from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device
from renalnet.types import HuArray


def segment(
    nets: Sequence[SegmentationNet],
    image: HuArray,
    normalisation: Normalisation,
    config: StitchConfig,
    device: Device,
) -> Stitched:
    """Return the vote of the networks on an ROI (paper, II.B). Training and the final stage both use this function.

    Args:
        nets: one network, or the members of an ensemble, whose votes are counted together.
        image: CT numbers (z, y, x) in HU.
        normalisation: intensity scaling that the networks expect.
        config: sub-volumes and how they are combined.
        device: device and precision of the networks.
    """
    forwards = [_forward(net, device) for net in nets]
    num_classes = nets[0].num_classes
    return stitch(
        forwards, image, config, num_classes=num_classes, normalise=normalisation.apply, device=device.torch_device
    )


def _forward(net: SegmentationNet, device: Device) -> Forward:
    # The trainer leaves its network in training mode, in which BatchNorm would use the sub-volumes' own statistics.
    net.eval()

    def forward(sub_volumes: Tensor) -> Tensor:
        with device.autocast():
            logits: Tensor = net(device.tensor(sub_volumes))
        return logits

    return forward
