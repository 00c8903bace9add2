"""Stitched inference over a region of interest by one network or an ensemble."""

from collections.abc import Sequence

import numpy as np
import torch

from renalnet.config import Normalisation, StitchConfig
from renalnet.inference.backends.backend import Backend, Workload
from renalnet.inference.backends.torch_backend import TorchBackend
from renalnet.inference.stitching import Stitched, num_sub_volumes, stitch
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
    vote, _ = segment_by(TorchBackend(nets, device), image, normalisation, config, nets[0].num_classes)
    return vote


def segment_by(
    backend: Backend, image: HuArray, normalisation: Normalisation, config: StitchConfig, num_classes: int
) -> tuple[Stitched, str]:
    """Return the vote of the networks of a backend on an ROI, and the name of the backend that computed them.

    Args:
        backend: computes the networks.
        image: CT numbers (z, y, x) in HU.
        normalisation: intensity scaling that the networks expect.
        config: sub-volumes and how they are combined.
        num_classes: number of classes of the networks.
    """
    networks = backend.prepared(_workload(image, normalisation, config))
    vote = stitch(
        networks.forwards,
        image,
        config,
        num_classes=num_classes,
        normalise=normalisation.apply,
        device=networks.device,
    )
    return vote, networks.backend


def _workload(image: HuArray, normalisation: Normalisation, config: StitchConfig) -> Workload:
    """Return the number of sub-volumes of an ROI, and the one in its middle, where the kidney is."""
    sizes = [min(tile, length) for tile, length in zip(config.tile, image.shape, strict=True)]
    starts = [(length - size) // 2 for size, length in zip(sizes, image.shape, strict=True)]
    z, y, x = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    voxels = np.ascontiguousarray(normalisation.apply(image[z, y, x]), dtype=np.float32)
    count = num_sub_volumes(image.shape, config) * 2 ** len(config.mirror)
    return Workload(torch.from_numpy(voxels)[None, None], count)
