"""Typed, frozen configuration of the method. An unknown key is an error that names the nearest known key.

Defaults are the paper's (Yang et al., ICPR 2018). Where the paper does not give a value, the default is this project's
reconstruction, and the field says "reconstruction". Lengths are in mm, triples are in (z, y, x) order.
"""

from renalnet.config.data import (
    Build,
    ContrastPhase,
    Normalisation,
    PhantomConfig,
    PrepareConfig,
    ReconstructionKernel,
)
from renalnet.config.inference import ComponentsConfig, CrfConfig, InferenceConfig, StitchConfig
from renalnet.config.labels import KIDNEY_TUMOR, KITS23, Label, LabelSet, chosen_labels, label_set
from renalnet.config.losses import LossConfig
from renalnet.config.networks import BASELINES, MAIN_NETWORK, NETWORKS, NetConfig, NetName
from renalnet.config.section import (
    AnySection,
    Section,
    Spacing,
    Voxels,
    fingerprint,
    merge,
    override,
    parse,
    read_file,
)
from renalnet.config.training import AugmentConfig, Chance, LoaderConfig, OptimConfig, PatchConfig, TrainConfig

__all__ = [
    "BASELINES",
    "KIDNEY_TUMOR",
    "KITS23",
    "MAIN_NETWORK",
    "NETWORKS",
    "AnySection",
    "AugmentConfig",
    "Build",
    "Chance",
    "ComponentsConfig",
    "ContrastPhase",
    "CrfConfig",
    "InferenceConfig",
    "Label",
    "LabelSet",
    "LoaderConfig",
    "LossConfig",
    "NetConfig",
    "NetName",
    "Normalisation",
    "OptimConfig",
    "PatchConfig",
    "PhantomConfig",
    "PrepareConfig",
    "ReconstructionKernel",
    "Section",
    "Spacing",
    "StitchConfig",
    "TrainConfig",
    "Voxels",
    "chosen_labels",
    "fingerprint",
    "label_set",
    "merge",
    "override",
    "parse",
    "read_file",
]
