"""Full inference of the paper: sub-volumes, majority vote, dense CRF, 18-connectivity (paper, II.B).

A model is one network or an ensemble. All networks of an ensemble are in memory at once, but only one of them has
activations at a time. The memory that an ROI needs does not depend on the number of networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from renalnet.config import InferenceConfig, LabelSet, Normalisation, StitchConfig, TrainConfig
from renalnet.config.labels import require_same_labels
from renalnet.errors import CheckpointError
from renalnet.inference.backends.backend import Backend
from renalnet.inference.backends.choice import backend_of
from renalnet.inference.backends.torch_backend import TorchBackend
from renalnet.inference.post_processing import Evidence, post_process
from renalnet.inference.segmentation import segment_by
from renalnet.inference.stitching import Stitched
from renalnet.nets import SegmentationNet, build_net, bundle
from renalnet.nets.describe import unlike_weights
from renalnet.nets.folded import folded
from renalnet.nets.tensor_file import Tensors
from renalnet.runtime.device import Device, pick_device
from renalnet.types import FloatArray, HuArray, LabelArray, Triple


@dataclass(frozen=True)
class Model:
    """A trained network or an ensemble of trained networks, ready for inference."""

    nets: tuple[SegmentationNet, ...]
    """Networks in their folded form, which is for inference only."""
    normalisation: Normalisation
    """Intensity scaling that all networks expect."""
    labels: LabelSet
    """Labels that all networks distinguish."""
    device: Device
    """Device of the networks."""
    config: bundle.BundleConfig
    """Content of the bundle's `config.json`; that of the first member for an ensemble."""
    sha256: tuple[str, ...] = ()
    """Checksum of the weights of each network; empty for networks that come from no bundle."""
    chosen: Backend | None = None
    """Computes the networks; None for PyTorch."""

    @property
    def backend(self) -> Backend:
        """What computes the networks."""
        return self.chosen or TorchBackend(self.nets, self.device)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels (z, y, x) of an ROI before and after post-processing."""

    network: LabelArray
    """Majority vote of the sub-volumes."""
    final: LabelArray
    """Labels after all operations of post-processing that are on."""
    probability: FloatArray
    """Mean class probabilities (C, z, y, x) of the vote."""
    adjusted: Stitched
    """The vote after `adjust` of `segment_roi`, from which `final` is made."""
    backend: str
    """Library, its version and its number format, as `torch 2.13.0, float32`."""


def load_bundle(folder: str, backend: str = "torch") -> Model:
    """Rebuild the network of a model bundle, or all networks of its ensemble.

    Args:
        folder: folder of the bundle.
        backend: what computes the networks: `torch`, `openvino`, or `auto` for the faster one.

    Raises:
        CheckpointError: the folder is not a bundle or is damaged.
        ConfigError: the backend is unknown, not installed, or does not compute on the device.
    """
    return load_ensemble(bundle.member_folders(folder), backend)


def load_ensemble(folders: Sequence[str], backend: str = "torch") -> Model:
    """Load an ensemble of the networks in some folders. The first folder states how the ensemble is used.

    Args:
        folders: bundles of one network each.
        backend: see `load_bundle`.

    Raises:
        CheckpointError: a folder is not a bundle or is damaged, or a member has other labels or expects another
            normalisation.
        ConfigError: see `load_bundle`.
    """
    loaded = [_load_member(folder) for folder in folders]
    members = [model for model, _ in loaded]
    require_alike(folders, [member.config for member in members])
    first = members[0]
    nets = tuple(net for member in members for net in member.nets)
    return replace(
        first,
        nets=nets,
        sha256=tuple(digest for member in members for digest in member.sha256),
        chosen=backend_of(backend, nets, [plain for _, plain in loaded], first.device),
    )


def require_alike(folders: Sequence[str], configs: Sequence[bundle.BundleConfig]) -> None:
    """Raise CheckpointError if the networks of an ensemble have other labels or expect another normalisation.

    Args:
        folders: bundles of one network each.
        configs: their configurations.
    """
    first, *others = configs
    for folder, other in zip(folders[1:], others, strict=True):
        require_same_labels(other.train.labels, first.train.labels, folder, folders[0], CheckpointError)
        if other.normalisation != first.normalisation:
            raise CheckpointError(
                f"{folder}: expects {other.normalisation} but {folders[0]} expects {first.normalisation}; name members "
                "that were trained on the same store"
            )


def _load_member(folder: str) -> tuple[Model, SegmentationNet]:
    """Return a model of one network, and the network as it is trained."""
    weights, config = bundle.load_model(folder)
    # Before folding, which merges BatchNorm's statistics into the weights of the convolutions.
    net = network_of(folder, weights, config.train).eval()
    device = pick_device(config.train.precision)
    nets = (folded(device.place(net), device.dtype),)
    return Model(nets, config.normalisation, config.train.labels, device, config, (config.sha256,)), net


def network_of(folder: str, weights: Tensors, train: TrainConfig) -> SegmentationNet:
    """Return the network that a model bundle states, with its weights.

    Raises:
        CheckpointError: the weights are those of another network.
    """
    # Before memory is allocated for the stated network.
    unlike = unlike_weights(train.net, train.labels.num_classes, weights)
    if unlike:
        raise CheckpointError(
            f"{folder}: its weights are not those of the network in {bundle.CONFIG_FILE} ({unlike[0]} and "
            f"{len(unlike) - 1} others differ); restore the bundle, or name another one"
        )
    net = build_net(train.net, train.labels)
    net.load_state_dict(weights)
    return net


def vote_roi(model: Model, image: HuArray, stitch: StitchConfig) -> Stitched:
    """Return the vote of the networks on an ROI (z, y, x) in HU, on the grid that the model was trained on."""
    vote, _ = _voted(model, image, stitch)
    return vote


def _voted(model: Model, image: HuArray, stitch: StitchConfig) -> tuple[Stitched, str]:
    return segment_by(model.backend, image, model.normalisation, stitch, model.labels.num_classes)


def segment_roi(
    model: Model,
    image: HuArray,
    spacing_mm: Triple,
    config: InferenceConfig,
    adjust: Callable[[Stitched], Stitched] = lambda vote: vote,
) -> Segmentation:
    """Segment an ROI on the grid that the model was trained on.

    Args:
        model: from `load_bundle`.
        image: CT numbers in HU, (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
        config: sub-volumes and the operations of post-processing.
        adjust: changes the vote before post-processing.

    Returns:
        The vote of the networks alone, and the labels after post-processing of the adjusted vote.
    """
    vote, backend = _voted(model, image, config.stitch)
    adjusted = adjust(vote)
    evidence = Evidence(adjusted.probability, image, spacing_mm, model.labels)
    final = post_process(adjusted.labels, evidence, config.operations.values())
    return Segmentation(vote.labels, final, vote.probability, adjusted, backend)
