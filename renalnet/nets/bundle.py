"""Model bundles: the weights as safetensors, and beside them a JSON file with the configuration and a checksum.

A bundle may come from anywhere, so everything in `config.json` is checked here. Other modules get a `BundleConfig`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator

from renalnet.config import InferenceConfig, Normalisation, PrepareConfig, Section, TrainConfig, parse
from renalnet.errors import CheckpointError, ConfigError, InputError
from renalnet.nets.tensor_file import Tensors, decode, digest_of, encode
from renalnet.runtime import storage

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CONFIG_DIGEST = "config_sha256"
"""Key of the checksum of all other values of the configuration."""
_MAX_BYTES: Final = 1_000_000
"""Size of the largest configuration that is read. One of two labels has about 8000 bytes."""


class BundleConfig(Section):
    """What is needed to build the networks of a bundle and to use them: the content of `config.json`."""

    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Checksum of the weights; `save_model` states it."""
    train: TrainConfig
    """Configuration of the training, which states the network and its labels."""
    normalisation: Normalisation
    """Intensity scaling that the network expects."""
    device: str = Field("", max_length=200)
    """Device and precision of the training, in words."""
    epoch: int = Field(0, ge=0)
    """Epoch of the weights; 0 where it is not known."""
    validation: dict[str, float] = Field({}, max_length=100)
    """Mean Dice of each label on the validation cases after that epoch, such as `dice_kidney`."""
    roi: PrepareConfig | None = None
    """How the ROIs of the training were cut; None for a network of a cohort without a store."""
    data: str = Field("", max_length=200)
    """Fingerprint of the store."""
    fold: str = Field("", max_length=200)
    """Fold of the cross-validation; empty where there is none."""
    final: InferenceConfig | None = None
    """Inference that the final stage of a study chose; None for a single training run."""
    num_members: int = Field(1, ge=1, le=100)
    """Networks of the ensemble, whose first one is the bundle itself."""

    @property
    def inference(self) -> InferenceConfig:
        """How the bundle segments: as `final` states, else with the sub-volumes of the training."""
        return self.final or InferenceConfig(stitch=self.train.stitch)

    @field_validator("train", "roi", mode="before")
    @classmethod
    def _labels_are_stated(cls, values: Any) -> Any:
        # A name would be that of any file, which a bundle must not make this program read.
        if isinstance(values, Mapping) and not isinstance(values.get("labels", {}), Mapping):
            raise ValueError("labels must be a mapping that states the label set; write it out")
        return values

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the fields that have their default."""
        values = self.model_dump(mode="json")
        fields = type(self).model_fields
        return {name: value for name, value in values.items() if getattr(self, name) != fields[name].default}


def save_model(folder: str | Path, tensors: Tensors, config: BundleConfig) -> None:
    """Write a model bundle: the weights, and the configuration that is needed to build and use the network."""
    content = encode(tensors)
    storage.write_bytes(storage.join(folder, MODEL_FILE), content)
    about = config.model_copy(update={"sha256": digest_of(content)})
    # Last, because readers open it first: until then it is missing, or its checksum does not match the weights.
    storage.write_bytes(storage.join(folder, CONFIG_FILE), config_content(about))


def config_content(config: BundleConfig) -> bytes:
    """Return the content of a bundle's configuration file: the values of `config`, and their checksum."""
    values = config.to_json()
    return storage.json_content({**values, CONFIG_DIGEST: _digest(values)})


def load_model(folder: str | Path) -> tuple[Tensors, BundleConfig]:
    """Return the weights and the configuration of a model bundle.

    Raises:
        CheckpointError: the folder is not a bundle, or its weights do not match the checksum in its configuration.
    """
    config = read_config(folder)
    try:
        content = storage.read_bytes(storage.join(folder, MODEL_FILE))
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    return decode(content, config.sha256, f"{folder}/{MODEL_FILE}"), config


def copy_models(folders: Sequence[str], target: str | Path, final: InferenceConfig | None = None) -> None:
    """Make the bundle of an ensemble from the bundles of its members.

    Args:
        folders: bundles of one network each. The configuration of the first says how the ensemble is used.
        target: folder of the new bundle.
        final: how the ensemble segments; None for the configuration of the first member.

    Raises:
        CheckpointError: one of `folders` is not a bundle, or its weights do not match its configuration.
    """
    # The first member is the bundle itself. It is written last, so that a bundle that can be read is complete.
    for number in range(len(folders), 0, -1):
        tensors, config = load_model(folders[number - 1])
        first = {"final": final or config.final, "num_members": len(folders)} if number == 1 else {}
        save_model(member_folder(target, number), tensors, config.model_copy(update=first))


def member_folder(folder: str | Path, number: int) -> str:
    """Return the folder of a member of an ensemble, by number from 1. The first member is the bundle itself."""
    return str(folder) if number == 1 else storage.join(folder, "members", str(number))


def member_folders(folder: str | Path) -> list[str]:
    """Return the folders of all members of a model bundle. Raises CheckpointError if the folder is not a bundle."""
    return [member_folder(folder, number) for number in range(1, read_config(folder).num_members + 1)]


def model_digest(folder: str | Path) -> str:
    """Return the sha256 of a model bundle's weights. Raises CheckpointError if the folder is not a bundle."""
    return read_config(folder).sha256


def read_config(folder: str | Path) -> BundleConfig:
    """Return the configuration of a model bundle.

    A bundle of an earlier version has no checksum of its configuration, which is then only checked against the rules of
    its fields.

    Raises:
        CheckpointError: the folder is not a bundle; or the file differs from its checksum, is larger or deeper than a
            configuration can be, or has a field that breaks a rule.
    """
    path = storage.join(folder, CONFIG_FILE)
    try:
        values = storage.read_json(path, max_bytes=_MAX_BYTES)
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    except (InputError, OSError) as error:
        raise CheckpointError(f"{error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("sha256"), str):
        raise CheckpointError(f"{path} states no sha256 of {MODEL_FILE}; name another bundle")
    if CONFIG_DIGEST in values and values.pop(CONFIG_DIGEST) != _digest(values):
        raise CheckpointError(
            f"{path} differs from its checksum: it was edited or damaged; restore it, or name another bundle"
        )
    try:
        return parse(BundleConfig, values, path)
    except ConfigError as error:
        raise CheckpointError(f"{error}; restore the file, or name another bundle") from error


def _digest(values: Mapping[str, Any]) -> str:
    """Return a hash of JSON values; it does not depend on the order of keys or on white space in a file."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()


def _no_model(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds no model ({MODEL_FILE} and {CONFIG_FILE}); give a run's folder or a study's `best`"
    )
