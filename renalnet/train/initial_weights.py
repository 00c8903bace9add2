"""Weights with which a run begins: those of a model bundle instead of random ones (`TrainConfig.init`).

Tensors of equal name and shape are taken, the running means of BatchNorm included. The others begin as random, such as
a head of another number of classes.
"""

from collections.abc import Collection, Mapping
from typing import Final

from torch import Tensor, nn

from renalnet.config import TrainConfig
from renalnet.errors import ConfigError
from renalnet.nets.bundle import BundleConfig, load_model
from renalnet.nets.describe import meta_net
from renalnet.nets.packaged import absolute_bundle, bundle_folder
from renalnet.nets.ppm import PyramidPooling
from renalnet.nets.tensor_file import Tensors
from renalnet.runtime.log import get_logger

MIN_SHARE: Final = 0.5
"""Least share of a network's weights, outside of the pyramid pooling module, that a bundle must have."""
_log = get_logger(__name__)


def pinned(config: TrainConfig) -> TrainConfig:
    """Return the configuration with an absolute path of its bundle `init` and with the sha256 of the weights.

    A configuration without `init` is returned unchanged.

    Raises:
        CheckpointError: `init` is not a bundle or is damaged.
        ConfigError: the weights are not those of `init_sha256`, or fewer than `MIN_SHARE` of the network's fit.
    """
    if config.init is None:
        return config
    named = config.model_copy(update={"init": absolute_bundle(config.init)})
    weights, about = _load(named)
    share = _fitting_share(meta_net(config.net, config.labels), weights)
    if share < MIN_SHARE:
        raise ConfigError(
            f"init {config.init}: only {share:.0%} of the weights outside of the pyramid pooling module fit "
            f"({_differences(about, config)}), but {MIN_SHARE:.0%} must; name a bundle of the same network, or change "
            "net"
        )
    return named.model_copy(update={"init_sha256": about.sha256})


def begin_with_bundle(net: nn.Module, config: TrainConfig) -> None:
    """Give a network the weights of the bundle `config.init` that fit. Without `init`, nothing changes.

    Raises:
        CheckpointError: `init` is not a bundle or is damaged.
        ConfigError: its weights are not those of `init_sha256`.
    """
    if config.init is None:
        return
    weights, _ = _load(config)
    own = net.state_dict()
    taken = {name: weights[name] for name in _fitting(own, weights)}
    net.load_state_dict(taken, strict=False)
    share = _num_values(own, taken) / _num_values(own, own)
    _log.info("the run begins with %.0f %% of its weights from %s", 100 * share, config.init)


def _load(config: TrainConfig) -> tuple[Tensors, BundleConfig]:
    """Return the weights and the configuration of the bundle; of an ensemble, those of its first network."""
    weights, about = load_model(bundle_folder(str(config.init)))
    if config.init_sha256 not in (None, about.sha256):
        raise ConfigError(
            f"init {config.init}: its weights have the sha256 {about.sha256}, not {config.init_sha256} as "
            "init_sha256 states; restore that bundle, or begin another run"
        )
    return weights, about


def _fitting(own: Mapping[str, Tensor], weights: Tensors) -> list[str]:
    return [name for name, tensor in own.items() if name in weights and weights[name].shape == tensor.shape]


def _fitting_share(net: nn.Module, weights: Tensors) -> float:
    # Most weights of a network can be in the deconvolutions of its largest pooling kernels, which often differ.
    pyramids = tuple(f"{name}." for name, module in net.named_modules() if isinstance(module, PyramidPooling))
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(pyramids)}
    return _num_values(own, _fitting(own, weights)) / _num_values(own, own)


def _num_values(own: Mapping[str, Tensor], names: Collection[str]) -> int:
    return sum(own[name].numel() for name in names)


def _differences(about: BundleConfig, config: TrainConfig) -> str:
    """Return the fields of the network that differ, as text."""
    before = about.train.net.model_dump(mode="json")
    now = config.net.model_dump(mode="json")
    changed = [name for name in now if before[name] != now[name]]
    return (
        ", ".join(f"{name} {before[name]} there, {now[name]} here" for name in changed) or "though its net is the same"
    )
