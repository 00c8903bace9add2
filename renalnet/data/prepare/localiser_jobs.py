"""The training of a store's localiser, as functions that other processes and other machines can run."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.loading import ScanCase, load_case
from renalnet.data.images.volume import Volume
from renalnet.data.phantom import OtherPart, paint_abdomen, paint_other_part
from renalnet.errors import CheckpointError
from renalnet.localiser.bundle_files import packaged_localiser
from renalnet.localiser.coarse_scan import CoarseScan, coarse_scan
from renalnet.runtime import storage
from renalnet.runtime.machine import keep_memory, num_cores

PHANTOM_SEED: Final = 1000
"""Seed of the painted phantoms, which no painted cohort of a preset has."""
ABDOMEN: Final = PhantomConfig(shape=(150, 124, 124), spacing_mm=(3.0, 3.0, 3.0), seed=PHANTOM_SEED)
"""From the heart to the hips, at half the spacing of the coarse grid."""
_OTHER_SHAPE: Final = (110, 124, 124)
_PARTS: Final[tuple[OtherPart, ...]] = ("head", "chest", "legs")
_ABDOMENS_A_PART: Final = 6
_KEY: Final = "key"
_NAME: Final = re.compile(r"localiser-[0-9a-f]{16}\.safetensors")


@dataclass(frozen=True)
class CoarseJob:
    """A scan that the localiser learns from: that of a case, or a painted one."""

    scan: ScanCase | None
    """The scan of a case; None for a painted one."""
    part: OtherPart | None = None
    """What is painted, where it is no abdomen."""
    phantom_index: int = 0
    """Number of the painted scan."""
    phantom: PhantomConfig = ABDOMEN
    """Settings of a painted scan."""

    def __str__(self) -> str:
        return self.scan.case if self.scan else f"{self.part or 'abdomen'}-{self.phantom_index}"


def coarse_of(job: CoarseJob) -> CoarseScan:
    """Return the scan of a job on the coarse grid of the localiser."""
    if job.scan:
        loaded = load_case(job.scan)
        return coarse_scan(str(job), loaded.image, loaded.body)
    if job.part:
        config = job.phantom.model_copy(update={"shape": _OTHER_SHAPE})
        image = paint_other_part(job.part, config, job.phantom_index)
        return coarse_scan(str(job), image, Volume(np.zeros(image.array.shape, np.uint8), image.grid))
    painted = paint_abdomen(job.phantom, job.phantom_index)
    body = job.phantom.labels.body_mask(painted.label.array).astype(np.uint8)
    return coarse_scan(str(job), painted.image, Volume(body, painted.label.grid))


def phantom_jobs(count: int, phantom: PhantomConfig = ABDOMEN) -> list[CoarseJob]:
    """Return the jobs of `count` painted abdomens, and of the other parts that belong to them."""
    abdomens = [CoarseJob(None, None, index, phantom) for index in range(count)]
    others = [CoarseJob(None, part, index, phantom) for part in _PARTS for index in range(count // _ABDOMENS_A_PART)]
    return abdomens + others


@dataclass(frozen=True)
class LocaliserJob:
    """The training of the localiser's network."""

    scans: tuple[CoarseScan, ...]
    config: PrepareConfig
    key: str
    """Result of `localiser_key`, which the file of the network states."""

    def __str__(self) -> str:
        return "localiser"


def localiser_of(job: LocaliserJob) -> bytes:
    """Return the file of the network, trained on the scans of the job."""
    config = job.config
    is_first = config.localiser_start == "random"
    if not (job.scans or is_first):
        return storage.read_bytes(packaged_localiser())
    # Imports PyTorch, for which the jobs that read and cut scans need not wait.
    from renalnet.localiser.network import network_to_bytes, new_network, packaged_network
    from renalnet.localiser.training import FIRST_RATE, FURTHER_RATE, train_network

    start = new_network(config.seed) if is_first else packaged_network()
    if not job.scans:
        return network_to_bytes(start)
    keep_memory()
    rate = FIRST_RATE if is_first else FURTHER_RATE
    trained = train_network(
        start, job.scans, num_steps=config.localiser_steps, base_rate=rate, seed=config.seed, threads=num_cores()
    )
    return network_to_bytes(replace(trained, about={**trained.about, _KEY: job.key}))


def localiser_key(config: PrepareConfig, stamps: Sequence[str]) -> str:
    """Return 16 hexadecimal digits of all that decides the training: settings and stamps of the scans of cases."""
    settings = [config.localiser_start, config.localiser_steps, config.localiser_phantoms, config.seed]
    return hashlib.sha256(json.dumps([settings, list(stamps)]).encode()).hexdigest()[:16]


def trained_before(store: str, key: str) -> bytes | None:
    """Return the file of a network that an interrupted preparation has trained, or None."""
    for name in filter(_NAME.fullmatch, storage.list_names(store)):
        from renalnet.localiser.network import load_network

        path = storage.join(store, name)
        try:
            if load_network(path).about.get(_KEY) == key:
                return storage.read_bytes(path)
        except CheckpointError:  # half written, or damaged: it is trained again
            continue
    return None
