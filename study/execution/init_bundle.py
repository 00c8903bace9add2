"""The model bundle with whose weights the trials of a study begin (`train.init`)."""

from renalnet.config.training import PACKAGED
from study.config.sections import StudyConfig
from study.execution.connection import refuse_relative


def pin_init(config: StudyConfig) -> StudyConfig:
    """Return the configuration with an absolute path of the bundle `train.init` and with the sha256 of its weights.

    A configuration without `train.init` is returned unchanged.

    Raises:
        CheckpointError: `train.init` is not a bundle or is damaged.
        ConfigError: the weights are not those of `train.init_sha256`, they do not fit 3D_FCN_PPM at a width of the
            search, or the path is relative inside a submitted job.
    """
    train = config.train
    if train.init is None:
        return config
    # Imports PyTorch, for which a study with random weights need not wait here.
    from renalnet.train.initial_weights import pinned

    if train.init != PACKAGED:
        refuse_relative(train.init)
    for width in config.space.width or ():
        pinned(train.model_copy(update={"net": train.net.model_copy(update={"width": width})}))
    return config.model_copy(update={"train": pinned(train)})
