"""Tensors as safetensors, guarded by a checksum; nothing is ever unpickled."""

import hashlib
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from renalnet.errors import CheckpointError

Tensors = dict[str, torch.Tensor]


def encode(tensors: Tensors) -> bytes:
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return bytes(save(plain))


def decode(content: bytes, sha256: str, where: str, meta: dict[str, Any] | None = None) -> Tensors:
    if digest_of(content, meta) != sha256:
        raise CheckpointError(f"{where} does not match its checksum; restore it or take another checkpoint")
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise CheckpointError(f"{where} is no safetensors file ({error}); take another checkpoint") from error


def digest_of(content: bytes, meta: dict[str, Any] | None = None) -> str:
    """Of the tensors, and of the JSON values beside them where they count."""
    digest = hashlib.sha256(content)
    if meta is not None:
        digest.update(json.dumps(meta, sort_keys=True).encode())
    return digest.hexdigest()
