"""The paper's full inference: sub-volumes, majority vote, dense CRF, 18-connectivity (paper, II.B)."""

from dataclasses import dataclass
from typing import Any

from renalnet import checkpoint
from renalnet.config import CrfConfig, StitchConfig, TrainConfig, parse
from renalnet.data.manifest import Normalisation
from renalnet.device import Device, pick_device
from renalnet.infer.components import largest_component
from renalnet.infer.crf import refine
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.folded import folded
from renalnet.train import segment
from renalnet.types import HuArray, LabelArray, Triple


@dataclass(frozen=True)
class Model:
    """A trained network with all that its use needs."""

    net: SegmentationNet
    """Folded: for inference only."""
    normalisation: Normalisation
    device: Device
    config: dict[str, Any]
    """The bundle's `config.json`."""


@dataclass(frozen=True)
class Stages:
    """Labels (z, y, x) after each step, each made of the one before."""

    network: LabelArray
    """The sub-volumes' majority vote."""
    crf: LabelArray
    """After the dense CRF."""
    final: LabelArray
    """After 18-connectivity: the largest component of kidney and tumor."""


def load_bundle(folder: str) -> Model:
    """Rebuild the network of a model bundle.

    Raises:
        CheckpointError: the folder is no bundle or is damaged.
    """
    weights, config = checkpoint.load_model(folder)
    train = parse(TrainConfig, config["train"], f"{folder}/{checkpoint.CONFIG_FILE}")
    net = build_net(train.net)
    net.load_state_dict(weights)
    device = pick_device(train.precision)
    return Model(folded(device.place(net), device.dtype), Normalisation(**config["normalisation"]), device, config)


def segment_roi(model: Model, image: HuArray, spacing_mm: Triple, stitch: StitchConfig, crf: CrfConfig) -> Stages:
    """Segment an ROI on the grid that the model was trained on.

    Args:
        model: from `load_bundle`.
        image: CT numbers in HU, (z, y, x).
        spacing_mm: of the voxels, (z, y, x).
        stitch: sub-volumes and their overlap.
        crf: the dense CRF; 0 iterations leave the vote as it is.
    """
    voted = segment(model.net, model.normalisation.apply(image), stitch, model.device)
    refined = refine(voted.probability, image, spacing_mm, crf)
    return Stages(voted.labels, refined, largest_component(refined))
