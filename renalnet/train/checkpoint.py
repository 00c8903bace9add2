"""Checkpoints of a training run: tensors as safetensors, and beside them a JSON file.

Each file is written under a temporary name and renamed, the JSON file last. It has a checksum of both files, so that an
incomplete or changed checkpoint is detected and the previous one is used.
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
"""Name of a temporary file of `storage` whose writer was killed."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to resume: tensors and JSON values."""

    step: int
    tensors: Tensors
    meta: dict[str, Any]


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, num_kept: int = 2) -> None:
    """Write a checkpoint, then delete old ones and temporary files of killed writers.

    The newest `num_kept` checkpoints up to this step are kept. Checkpoints of later steps are deleted too, because a
    run returns to an earlier step only if they are damaged.
    """
    content = encode(checkpoint.tensors)
    storage.write_bytes(_tensors_of(folder, checkpoint.step), content)
    digest = digest_of(content, checkpoint.meta)
    storage.write_json(_json_of(folder, checkpoint.step), {"sha256": digest, **checkpoint.meta})
    names = storage.list_names(folder)
    kept = [step for step in _steps(names) if step <= checkpoint.step][-num_kept:]
    for step in set(_steps(names)) - set(kept):
        # JSON first: without it the tensors are no checkpoint, so that a kill here leaves no damaged one.
        storage.delete(_json_of(folder, step))
        storage.delete(_tensors_of(folder, step))
    # Both files of this checkpoint are complete, so that none of these is being written by this run.
    for name in filter(_HALF_WRITTEN.fullmatch, names):
        storage.delete(storage.join(folder, name))


def load_checkpoint(folder: str | Path) -> Checkpoint | None:
    """Return the newest undamaged checkpoint, or None if the folder has no checkpoint.

    Damaged checkpoints are skipped with a warning.

    Raises:
        CheckpointError: all checkpoints are damaged. A run that started again would overwrite the earlier one.
    """
    steps = _steps(storage.list_names(folder))
    for step in reversed(steps):
        try:
            return _load(folder, step)
        except (RenalnetError, FileNotFoundError) as error:
            _log.warning("checkpoint %d of %s is damaged (%s); trying the previous one", step, folder, error)
    if steps:
        raise CheckpointError(
            f"{folder}: all {len(steps)} checkpoints are damaged; restore one, or choose an empty folder"
        )
    return None


def has_checkpoint(folder: str | Path) -> bool:
    """Whether the folder has a checkpoint, damaged or not."""
    return bool(_steps(storage.list_names(folder)))


def _load(folder: str | Path, step: int) -> Checkpoint:
    where = _tensors_of(folder, step)
    meta = storage.read_json(_json_of(folder, step))
    # A damaged file may still be valid JSON.
    if not isinstance(meta, dict) or "sha256" not in meta:
        raise CheckpointError(f"{_json_of(folder, step)} has no checksum; restore the file or use another checkpoint")
    # The checksum was taken of the values without itself.
    sha256 = meta.pop("sha256")
    content = storage.read_bytes(where)
    return Checkpoint(step, decode(content, sha256, where, meta), meta)


def _json_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.json")


def _tensors_of(folder: str | Path, step: int) -> str:
    return storage.join(folder, f"checkpoint-{step:06d}.safetensors")


def _steps(names: Iterable[str]) -> list[int]:
    matches = (_PATTERN.fullmatch(name) for name in names)
    # As numbers: by name, step 1000000 would come before step 999999.
    return sorted(int(match[1]) for match in matches if match)
