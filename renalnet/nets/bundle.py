"""Checkpoints and model bundles: safetensors with JSON beside them, never a pickle.

A checkpoint is written tensors first, JSON last, each renamed into place; the JSON holds a checksum of both, so a
checkpoint that was cut short or altered is recognised and the one before it is taken.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from renalnet.errors import CheckpointError
from renalnet.nets.tensor_file import Tensors, decode, digest_of, encode
from renalnet.runtime import storage

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
NUM_MEMBERS = "num_members"
"""Of an ensemble, in the configuration of its bundle; absent where the bundle is of one network."""


def save_model(folder: str | Path, tensors: Tensors, config: dict[str, Any]) -> None:
    """Write a model bundle: weights, and all that is needed to rebuild and use the network."""
    content = encode(tensors)
    storage.write_bytes(storage.join(folder, MODEL_FILE), content)
    storage.write_json(storage.join(folder, CONFIG_FILE), {"sha256": digest_of(content), **config})


def load_model(folder: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Weights and configuration of a model bundle.

    Raises:
        CheckpointError: the folder is no bundle, or its weights do not match its configuration.
    """
    config = _read_config(folder)
    try:
        content = storage.read_bytes(storage.join(folder, MODEL_FILE))
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    return decode(content, config["sha256"], f"{folder}/{MODEL_FILE}"), config


def copy_models(folders: Sequence[str], target: str | Path, more: dict[str, Any]) -> None:
    """Make the bundle of an ensemble out of its members' own bundles; the first one's configuration comes last.

    Args:
        folders: a bundle of one network each; the first is the one that says how the ensemble is used.
        target: the folder of the new bundle.
        more: values laid over the first one's configuration.

    Raises:
        CheckpointError: one of `folders` is no bundle, or its weights do not match its configuration.
    """
    for number in range(len(folders), 0, -1):
        tensors, config = load_model(folders[number - 1])
        first = {**more, NUM_MEMBERS: len(folders)} if number == 1 else {}
        save_model(member_folder(target, number), tensors, {**config, **first})


def member_folder(folder: str | Path, number: int) -> str:
    """Where a model bundle keeps a member of its ensemble, by number from 1: the first one is the bundle itself."""
    return str(folder) if number == 1 else storage.join(folder, "members", str(number))


def member_folders(folder: str | Path) -> list[str]:
    """The folders of all members of a model bundle. Raises CheckpointError where the folder is no bundle."""
    num_members = _read_config(folder).get(NUM_MEMBERS, 1)
    return [member_folder(folder, number) for number in range(1, num_members + 1)]


def model_digest(folder: str | Path) -> str:
    """The sha256 of a model bundle's weights. Raises CheckpointError where the folder is no bundle."""
    return str(_read_config(folder)["sha256"])


def _read_config(folder: str | Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = storage.read_json(storage.join(folder, CONFIG_FILE))
    except FileNotFoundError as error:
        raise _no_model(folder) from error
    return config


def _no_model(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds no model ({MODEL_FILE} and {CONFIG_FILE}); name the `best` folder of a study"
    )
