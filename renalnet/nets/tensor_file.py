"""Tensors as safetensors with a checksum. Nothing is unpickled."""

import hashlib
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from renalnet.errors import CheckpointError

Tensors = dict[str, torch.Tensor]


def encode(tensors: Tensors) -> bytes:
    """Return the content of a safetensors file."""
    # safetensors refuses tensors that are not contiguous, and tensors that share their memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return bytes(save(plain))


def decode(content: bytes, sha256: str, where: str, meta: dict[str, Any] | None = None) -> Tensors:
    """Return the tensors of a safetensors file.

    Args:
        content: of the file.
        sha256: the expected `digest_of(content, meta)`.
        where: path of the file, for messages.
        meta: JSON values that the checksum includes; None: none.

    Raises:
        CheckpointError: the checksum differs, or the content is not safetensors.
    """
    if digest_of(content, meta) != sha256:
        raise CheckpointError(f"{where} does not match its checksum; restore the file or use another checkpoint")
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise CheckpointError(f"{where}: not a safetensors file ({error}); use another checkpoint") from error


def digest_of(content: bytes, meta: dict[str, Any] | None = None) -> str:
    """Return the sha256 of the encoded tensors and, unless `meta` is None, of the JSON values, as hexadecimal text."""
    digest = hashlib.sha256(content)
    if meta is not None:
        # Sorted, so that the order of the keys in the file does not matter.
        digest.update(json.dumps(meta, sort_keys=True).encode())
    return digest.hexdigest()
