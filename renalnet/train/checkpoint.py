"""Checkpoints of a training run: safetensors with JSON beside them, never a pickle.

A checkpoint is written tensors first, JSON last, each renamed into place. The JSON holds a checksum of both, so that a
checkpoint that was cut short or altered is recognised and the one before it is taken.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renalnet.errors import CheckpointError, RenalnetError
from renalnet.nets.tensor_file import Tensors, decode, digest_of, encode
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger

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
    content = encode(checkpoint.tensors)
    storage.write_bytes(_tensors_of(folder, checkpoint.step), content)
    digest = digest_of(content, checkpoint.meta)
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


def _load(folder: str | Path, step: int) -> Checkpoint:
    where = _tensors_of(folder, step)
    meta = storage.read_json(_json_of(folder, step))
    if not isinstance(meta, dict) or "sha256" not in meta:
        raise CheckpointError(f"{_json_of(folder, step)} holds no checksum; restore it or take another checkpoint")
    sha256 = meta.pop("sha256")
    content = storage.read_bytes(where)
    return Checkpoint(step, decode(content, sha256, where, meta), meta)


def _json_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.json")


def _tensors_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.safetensors")


def _steps(names: Iterable[str]) -> list[int]:
    matches = (_PATTERN.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in matches if match)
