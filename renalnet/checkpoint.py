"""Checkpoints and model bundles: safetensors with JSON beside them, never a pickle.

A checkpoint is written tensors first, JSON last, each renamed into place; the JSON holds a checksum of both, so a
checkpoint that was cut short or altered is recognised and the one before it is taken.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from renalnet import storage
from renalnet.errors import CheckpointError, RenalnetError
from renalnet.log import get_logger

Tensors = dict[str, torch.Tensor]
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
NUM_MEMBERS = "num_members"
"""Of an ensemble, in the configuration of its bundle; absent where the bundle is of one network."""
_PATTERN = re.compile(r"checkpoint-(\d{6,})\.json")
_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""What `storage` leaves of a file whose writer was killed."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on: tensors, and JSON values."""

    step: int
    tensors: Tensors
    meta: dict[str, Any]


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, num_kept: int = 2) -> None:
    """Write a checkpoint, then remove all but the newest `num_kept` up to it, and what a killed writer left.

    Those of later steps go too: a run comes back behind them only where they are damaged.
    """
    content = _encode(checkpoint.tensors)
    storage.write_bytes(_tensors_of(folder, checkpoint.step), content)
    digest = _digest(content, checkpoint.meta)
    storage.write_json(_json_of(folder, checkpoint.step), {"sha256": digest, **checkpoint.meta})
    names = storage.list_names(folder)
    kept = [step for step in _steps(names) if step <= checkpoint.step][-num_kept:]
    for step in set(_steps(names)) - set(kept):
        storage.delete(_json_of(folder, step))
        storage.delete(_tensors_of(folder, step))
    for name in filter(_HALF_WRITTEN.fullmatch, names):
        storage.delete(storage.join(folder, name))


def load_checkpoint(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are skipped with a warning. None where there is none.

    Raises:
        CheckpointError: all are damaged, so that a run does not begin anew over what it had reached.
    """
    steps = _steps(storage.list_names(folder))
    for step in reversed(steps):
        try:
            return _load(folder, step)
        except (RenalnetError, FileNotFoundError) as error:
            _log.warning("checkpoint %d of %s is damaged (%s); looking for one before it", step, folder, error)
    if steps:
        raise CheckpointError(
            f"{folder}: none of its checkpoints is whole ({len(steps)} damaged); restore one, or choose an empty folder"
        )
    return None


def has_checkpoint(folder: str | Path) -> bool:
    """Whether there is one, whole or not."""
    return bool(_steps(storage.list_names(folder)))


def save_model(folder: str | Path, tensors: Tensors, config: dict[str, Any]) -> None:
    """Write a model bundle: weights, and all that is needed to rebuild and use the network."""
    content = _encode(tensors)
    storage.write_bytes(storage.join(folder, MODEL_FILE), content)
    storage.write_json(storage.join(folder, CONFIG_FILE), {"sha256": _digest(content), **config})


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
    return _decode(content, config["sha256"], f"{folder}/{MODEL_FILE}"), config


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


def _load(folder: str | Path, step: int) -> Checkpoint:
    where = _tensors_of(folder, step)
    meta = storage.read_json(_json_of(folder, step))
    if not isinstance(meta, dict) or "sha256" not in meta:
        raise CheckpointError(f"{_json_of(folder, step)} holds no checksum; restore it or take another checkpoint")
    sha256 = meta.pop("sha256")
    content = storage.read_bytes(where)
    return Checkpoint(step, _decode(content, sha256, where, meta), meta)


def _json_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.json")


def _tensors_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.safetensors")


def _steps(names: Iterable[str]) -> list[int]:
    matches = (_PATTERN.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _encode(tensors: Tensors) -> bytes:
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return bytes(save(plain))


def _decode(content: bytes, sha256: str, where: str, meta: dict[str, Any] | None = None) -> Tensors:
    if _digest(content, meta) != sha256:
        raise CheckpointError(f"{where} does not match its checksum; restore it or take another checkpoint")
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise CheckpointError(f"{where} is no safetensors file ({error}); take another checkpoint") from error


def _digest(content: bytes, meta: dict[str, Any] | None = None) -> str:
    """Of the tensors, and of the JSON values beside them where they count."""
    digest = hashlib.sha256(content)
    if meta is not None:
        digest.update(json.dumps(meta, sort_keys=True).encode())
    return digest.hexdigest()
