"""Model bundles of untrained networks, which are made in an instant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from renalnet.config import (
    CrfConfig,
    InferenceConfig,
    NetConfig,
    Normalisation,
    PrepareConfig,
    StitchConfig,
    TrainConfig,
)
from renalnet.data.images.grid import Grid
from renalnet.data.localise.atlas import ATLAS_FILE, Atlas, atlases_to_bytes
from renalnet.nets import build_net
from renalnet.nets.bundle import BundleConfig, save_model
from renalnet.runtime import storage

ROI = Grid.axis_aligned((24, 40, 44), (3.0, 2.0, 2.0))
"""As small as an ROI that is already cut, so that no kidney is searched for."""


def bundle_config(train: TrainConfig | None = None, **more: Any) -> BundleConfig:
    """The configuration of a bundle, by default of the default training."""
    return BundleConfig(train=train or TrainConfig(), normalisation=Normalisation(-200, 500, 0.3), **more)


def make_bundle(folder: Path, atlases: Sequence[Atlas]) -> str:
    """Return an untrained network that labels some voxels kidney and some tumor."""
    stitch = StitchConfig(tile=(16, 32, 32), stride=(8, 16, 16))
    train = TrainConfig(net=NetConfig(width=4, ppm_kernels=(1, 2)), stitch=stitch, precision="float32")
    config = bundle_config(
        train,
        roi=PrepareConfig(spacing_mm=(3.0, 2.0, 2.0)),
        final=InferenceConfig(crf=CrfConfig(iterations=0), stitch=stitch),
    )
    save_model(folder, dict(build_net(train.net, train.labels).state_dict()), config)
    storage.write_bytes(storage.join(folder, ATLAS_FILE), atlases_to_bytes(atlases))
    return str(folder)
