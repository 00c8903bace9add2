"""The paper's full inference: sub-volumes, majority vote, dense CRF, 18-connectivity (paper, II.B).

A model is one network or an ensemble. All networks of an ensemble are in memory at once, with the activations of one;
what an ROI takes beside that does not depend on their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from renalnet.config import InferenceConfig, StitchConfig, TrainConfig, parse
from renalnet.data.store.manifest import Normalisation
from renalnet.errors import CheckpointError
from renalnet.inference.components import keep_largest
from renalnet.inference.crf import refine
from renalnet.inference.segmentation import segment
from renalnet.inference.stitching import Stitched
from renalnet.nets import SegmentationNet, build_net, bundle
from renalnet.nets.folded import folded
from renalnet.runtime.device import Device, pick_device
from renalnet.types import HuArray, LabelArray, Triple


@dataclass(frozen=True)
class Model:
    """A trained network, or an ensemble of them, with all that its use needs."""

    nets: tuple[SegmentationNet, ...]
    """Folded: for inference only."""
    normalisation: Normalisation
    device: Device
    config: dict[str, Any]
    """The bundle's `config.json`, the first member's."""


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
    """Rebuild the network of a model bundle, or all networks of its ensemble.

    Raises:
        CheckpointError: the folder is no bundle or is damaged.
    """
    return load_ensemble(bundle.member_folders(folder))


def load_ensemble(folders: Sequence[str]) -> Model:
    """An ensemble of the networks in some folders, the first of which says how the ensemble is used.

    Raises:
        CheckpointError: a folder is no bundle or is damaged, or a member expects other intensities.
    """
    first, *others = (_load_member(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        if other.normalisation != first.normalisation:
            raise CheckpointError(
                f"{folder} expects intensities by {other.normalisation}, {folders[0]} by {first.normalisation}; the "
                "members of an ensemble must have learned from the same store"
            )
    return replace(first, nets=tuple(net for member in (first, *others) for net in member.nets))


def _load_member(folder: str) -> Model:
    weights, config = bundle.load_model(folder)
    train = parse(TrainConfig, config["train"], f"{folder}/{bundle.CONFIG_FILE}")
    net = build_net(train.net)
    net.load_state_dict(weights)
    device = pick_device(train.precision)
    return Model((folded(device.place(net), device.dtype),), Normalisation(**config["normalisation"]), device, config)


def vote_roi(model: Model, image: HuArray, stitch: StitchConfig) -> Stitched:
    """What the networks' sub-volumes agree on in an ROI (z, y, x) in HU, on the grid that the model was trained on."""
    return segment(model.nets, image, model.normalisation, stitch, model.device)


def segment_roi(model: Model, image: HuArray, spacing_mm: Triple, config: InferenceConfig) -> Stages:
    """Segment an ROI on the grid that the model was trained on.

    Args:
        model: from `load_bundle`.
        image: CT numbers in HU, (z, y, x).
        spacing_mm: of the voxels, (z, y, x).
        config: sub-volumes, the field, and which component stays.
    """
    vote = vote_roi(model, image, config.stitch)
    refined = refine(vote.probability, image, spacing_mm, config.crf)
    return Stages(vote.labels, refined, keep_largest(refined, spacing_mm, config.components))
