"""Stitched inference over a region of interest by one network or an ensemble."""

from collections.abc import Sequence

from torch import Tensor

from renalnet.config import StitchConfig
from renalnet.data.store.manifest import Normalisation
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
    """Stitched inference over an ROI (z, y, x) in HU, the same in training and in the final stage (paper, II.B).

    Several networks are an ensemble that votes in one ballot.
    """
    forwards = [_forward(net, device) for net in nets]
    return stitch(forwards, image, config, normalise=normalisation.apply, device=device.torch_device)


def _forward(net: SegmentationNet, device: Device) -> Forward:
    net.eval()

    def forward(tile: Tensor) -> Tensor:
        with device.autocast():
            logits: Tensor = net(device.tensor(tile))
        return logits

    return forward
