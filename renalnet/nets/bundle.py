"""Model bundles: the weights as safetensors, and beside them a JSON file with the configuration and a checksum."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from renalnet.errors import CheckpointError, InputError
from renalnet.nets.tensor_file import Tensors, decode, digest_of, encode
from renalnet.runtime import storage

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CONFIG_DIGEST = "config_sha256"
"""Key of the checksum of all other values of the configuration."""
NUM_MEMBERS = "num_members"
"""Key of the number of networks of an ensemble in the configuration of its bundle; absent for a single network."""


def save_model(folder: str | Path, tensors: Tensors, config: dict[str, Any]) -> None:
    """Write a model bundle: the weights, and the configuration that is needed to build and use the network."""
    content = encode(tensors)
    storage.write_bytes(storage.join(folder, MODEL_FILE), content)
    about = {"sha256": digest_of(content), **config}
    # Last, because readers open it first: until then it is missing, or its checksum does not match the weights.
    storage.write_bytes(storage.join(folder, CONFIG_FILE), config_content(about))


def config_content(values: Mapping[str, Any]) -> bytes:
    """Return the content of a bundle's configuration file: `values`, which include `sha256`, and their checksum."""
    return storage.json_content({**values, CONFIG_DIGEST: _digest(values)})


def load_model(folder: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the weights and the configuration of a model bundle.

    Raises:
        CheckpointError: the folder is not a bundle, or its weights do not match the checksum in its configuration.
    """
    config = _read_config(folder)
    try:
        content = storage.read_bytes(storage.join(folder, MODEL_FILE))
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    return decode(content, config["sha256"], f"{folder}/{MODEL_FILE}"), config


def copy_models(folders: Sequence[str], target: str | Path, more: dict[str, Any]) -> None:
    """Make the bundle of an ensemble from the bundles of its members.

    Args:
        folders: bundles of one network each. The configuration of the first says how the ensemble is used.
        target: folder of the new bundle.
        more: values that replace those of the first configuration.

    Raises:
        CheckpointError: one of `folders` is not a bundle, or its weights do not match its configuration.
    """
    # The first member is the bundle itself. It is written last, so that a bundle that can be read is complete.
    for number in range(len(folders), 0, -1):
        tensors, config = load_model(folders[number - 1])
        first = {**more, NUM_MEMBERS: len(folders)} if number == 1 else {}
        save_model(member_folder(target, number), tensors, {**config, **first})


def member_folder(folder: str | Path, number: int) -> str:
    """Return the folder of a member of an ensemble, by number from 1. The first member is the bundle itself."""
    return str(folder) if number == 1 else storage.join(folder, "members", str(number))


def member_folders(folder: str | Path) -> list[str]:
    """Return the folders of all members of a model bundle. Raises CheckpointError if the folder is not a bundle."""
    num_members = _read_config(folder).get(NUM_MEMBERS, 1)
    return [member_folder(folder, number) for number in range(1, num_members + 1)]


def model_digest(folder: str | Path) -> str:
    """Return the sha256 of a model bundle's weights. Raises CheckpointError if the folder is not a bundle."""
    return str(_read_config(folder)["sha256"])


def _read_config(folder: str | Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = storage.read_json(storage.join(folder, CONFIG_FILE))
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    except InputError as error:
        raise CheckpointError(f"{error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("sha256"), str):
        raise CheckpointError(f"{folder}/{CONFIG_FILE} states no sha256 of {MODEL_FILE}; name another bundle")
    # Bundles of earlier versions have no checksum of their configuration.
    if CONFIG_DIGEST in config and config.pop(CONFIG_DIGEST) != _digest(config):
        raise CheckpointError(
            f"{folder}/{CONFIG_FILE} differs from its checksum: it was edited or damaged; restore it, or name another "
            "bundle"
        )
    return config


def _digest(values: Mapping[str, Any]) -> str:
    """Return a hash of JSON values; it does not depend on the order of keys or on white space in a file."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()


def _no_model(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds no model ({MODEL_FILE} and {CONFIG_FILE}); give a run's folder or a study's `best`"
    )
