"""Where a mask comes from: its scan, the model bundle, the version and the configuration; and what was measured on it.

Nothing of it is read from the fields of a patient in a DICOM header.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from renalnet.config import InferenceConfig
from renalnet.data.images.volume import image_stem
from renalnet.errors import InputError
from renalnet.runtime import storage
from renalnet.types import HuArray

_MAX_BYTES: Final = 1_000_000
"""Size of the largest JSON file of a mask that is read."""


@dataclass(frozen=True)
class Provenance:
    """What a mask was made from; `provenance` in its JSON file."""

    scan: str
    """Absolute path of the file or folder of the scan."""
    scan_sha256: str
    """Checksum of the scan's CT numbers, from `scan_digest`."""
    series: str | None
    """Chosen DICOM series; None without a choice."""
    phase: str | None
    """Chosen phase of the series; None without a choice."""
    model: str
    """Model bundle as it was named: its folder, or `packaged`."""
    model_sha256: Sequence[str]
    """Checksum of the weights of each network of the bundle."""
    localise: str
    """How kidneys were searched for, as `prepare.localise`."""
    inference: InferenceConfig
    """Configuration of the inference."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the version of renalnet."""
        return {
            **asdict(self),
            "model_sha256": list(self.model_sha256),
            "inference": self.inference.model_dump(mode="json"),
            "renalnet": version("renalnet"),
        }


def scan_digest(hu: HuArray) -> str:
    """Return the sha256 of CT numbers as hexadecimal text.

    A copy of the scan, another compression and another order of its DICOM files give the same checksum.

    Args:
        hu: canonical CT numbers (z, y, x). They are hashed as little-endian int16, x fastest.
    """
    return hashlib.sha256(np.ascontiguousarray(hu, dtype="<i2").data).hexdigest()


def stated_scan(path: str) -> str | None:
    """Return the checksum of the scan in the JSON file of a mask; None where the file states none."""
    digest = (_stated(path) or {}).get("scan_sha256")
    return digest if isinstance(digest, str) else None


def _stated(path: str) -> dict[str, Any] | None:
    """Return the provenance in the JSON file of a mask; None where the file states none."""
    try:
        values = storage.read_json(path, max_bytes=_MAX_BYTES)
    except (InputError, FileNotFoundError):
        return None
    about = values.get("provenance") if isinstance(values, dict) else None
    return about if isinstance(about, dict) else None


def measured_masks(masks: Iterable[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what measures were made from: the version, the settings, and each mask with its checksum.

    `made_from` is the provenance in the JSON file beside a mask that `predict` wrote; None for any other mask.

    Args:
        masks: files of the masks that were measured.
        settings: options of the measures, as plain values.
    """
    return {"renalnet": version("renalnet"), "settings": dict(settings), "masks": [_about(mask) for mask in masks]}


def _about(mask: Path) -> dict[str, Any]:
    with mask.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made_from = _stated(str(mask.with_name(f"{image_stem(mask.name)}.json")))
    return {"mask": str(mask.absolute()), "mask_sha256": digest, "made_from": made_from}
