"""The store of ROIs: Parquet shards, one row a z-slab of an ROI, and a manifest that is written last.

    STORE/manifest.json              configuration, normalisation, cases, shards with sizes and checksums
    STORE/shards/train-00000.parquet int16 HU and uint8 labels; patients whole within a shard, splits apart

A folder without a manifest is no store yet, a reader never sees half of one. Any `pyarrow.fs` path will do.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from renalnet import storage
from renalnet.config import PrepareConfig, fingerprint
from renalnet.data.manifest import VERSION, CaseEntry, Manifest, Normalisation, Provenance, ShardEntry
from renalnet.data.shards import ShardBuilder, read_counts, read_slabs, slab_rows
from renalnet.data.volume import Grid
from renalnet.errors import ConfigError, InputError, StoreError, nearest
from renalnet.types import NUM_CLASSES, SPLITS, HuArray, LabelArray, Split, Triple

__all__ = [
    "CaseEntry",
    "Manifest",
    "Normalisation",
    "Provenance",
    "Roi",
    "ShardEntry",
    "Store",
    "StoreWriter",
    "open_store",
    "write_store",
]

MANIFEST: Final = "manifest.json"
SHARDS: Final = "shards"
UNKNOWN: Final = Provenance()
_SHARD_NAME: Final = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}\.parquet")


@dataclass(frozen=True)
class Roi:
    """The region of interest of one patient."""

    case: str
    split: Split
    image: HuArray
    """HU, (z, y, x)."""
    label: LabelArray
    grid: Grid
    """Of the ROI; its direction is the identity."""
    source: Grid
    """Of the scan that the ROI was cut from, as its file states it: the way back."""
    notes: tuple[str, ...] = ()
    """What happened on the way here, e.g. that the window grew."""

    @property
    def spacing_mm(self) -> Triple:
        """Spacing as (z, y, x)."""
        return self.grid.spacing_mm


@dataclass(frozen=True)
class Store:
    """An opened store. It holds no open file, so it can be sent to another process."""

    path: str
    manifest: Manifest

    @property
    def normalisation(self) -> Normalisation:
        """How intensities become network input."""
        return self.manifest.normalisation

    @property
    def fingerprint(self) -> str:
        """Changes when any shard, the configuration or the normalisation does."""
        return self.manifest.fingerprint

    def cases(self, split: Split | None = None) -> list[str]:
        """Case names, sorted; of one split, or of all."""
        return sorted(entry.case for entry in self.manifest.cases if split in (None, entry.split))

    def entry(self, case: str) -> CaseEntry:
        """What the manifest says of a case. Raises StoreError for an unknown one."""
        for entry in self.manifest.cases:
            if entry.case == case:
                return entry
        raise StoreError(f"{self.path}: no case '{case}'; {nearest(case, self.cases())}")

    def read(self, case: str) -> Roi:
        """The ROI of a case; reads only its rows.

        Raises:
            StoreError: the case is unknown, or its shard is damaged or foreign.
        """
        entry = self.entry(case)
        image, label = self.read_slices(case, 0, entry.shape[0])
        return Roi(case, entry.split, image, label, entry.grid, entry.source, entry.notes)

    def read_slices(self, case: str, start: int, stop: int) -> tuple[HuArray, LabelArray]:
        """Image and label of slices `start` to `stop` (exclusive, inside the ROI); reads only their rows.

        Raises:
            StoreError: the case is unknown, or its shard is damaged or foreign.
        """
        entry = self.entry(case)
        shape = (stop - start, *entry.shape[1:])
        image, label = np.empty(shape, np.int16), np.empty(shape, np.uint8)
        slab = self.manifest.config.slab_slices
        rows = range(entry.first_row + start // slab, entry.first_row + -(-stop // slab))
        with self._shard(entry.shard) as file:
            for z_start, pixels, classes in read_slabs(file, case, rows):
                low, high = max(start, z_start), min(stop, z_start + len(pixels))
                image[low - start : high - start] = pixels[low - z_start : high - z_start]
                label[low - start : high - start] = classes[low - z_start : high - z_start]
        return image, label

    def slab_counts(self, case: str) -> NDArray[np.int64]:
        """Voxels of each label in each z-slab, (slabs, 3); reads no pixel. Raises StoreError."""
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            return read_counts(file, range(entry.first_row, entry.first_row + entry.num_rows))

    def read_split(self, split: Split) -> list[Roi]:
        """The ROIs of a split, in the order of `cases`. Raises StoreError."""
        return [self.read(case) for case in self.cases(split)]

    def verify(self) -> None:
        """Compare each shard with its checksum. Raises StoreError naming the first that differs."""
        for shard in self.manifest.shards:
            content = storage.read_bytes(self._path(shard.name))
            if hashlib.sha256(content).hexdigest() != shard.sha256:
                raise StoreError(_damaged(self._path(shard.name), "its checksum is not the manifest's"))

    def describe(self) -> list[dict[str, Any]]:
        """A row a split: cases, mean ROI size, class shares of the voxels, bytes on disk."""
        return [_describe(self.manifest, split) for split in SPLITS if self.cases(split)]

    def _path(self, shard: str) -> str:
        return storage.join(self.path, SHARDS, shard)

    @contextmanager
    def _shard(self, name: str) -> Iterator[pq.ParquetFile]:
        filesystem, inner = storage.resolve(self._path(name))
        try:
            with filesystem.open_input_file(inner) as stream, pq.ParquetFile(stream) as file:
                yield file
        except (pa.ArrowException, OSError, KeyError, IndexError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise StoreError(_damaged(self._path(name), reason)) from error


def _describe(manifest: Manifest, split: Split) -> dict[str, Any]:
    entries = [entry for entry in manifest.cases if entry.split == split]
    counts = np.array([entry.counts for entry in entries]).sum(axis=0)
    shards = {entry.shard for entry in entries}
    return {
        "split": split,
        "cases": len(entries),
        "mean_shape": tuple(np.mean([entry.shape for entry in entries], axis=0).round(1).tolist()),
        **dict(zip(("background", "kidney", "tumor"), (counts / counts.sum()).tolist(), strict=True)),
        "num_bytes": sum(shard.num_bytes for shard in manifest.shards if shard.name in shards),
    }


def _damaged(path: str, reason: str) -> str:
    return f"{path}: damaged or foreign shard ({reason}); restore it or prepare the store again"


def open_store(path: str | Path) -> Store:
    """Open a store and compare its shards' sizes with the manifest.

    Raises:
        StoreError: there is no manifest, it cannot be understood, or a shard is missing or of another size.
    """
    store = Store(str(path), _read_manifest(path))
    for shard in store.manifest.shards:
        filesystem, inner = storage.resolve(storage.join(path, SHARDS, shard.name))
        size = filesystem.get_file_info(inner).size
        if size != shard.num_bytes:
            found = "it is missing" if size is None else f"{size} bytes where the manifest says {shard.num_bytes}"
            raise StoreError(_damaged(storage.join(path, SHARDS, shard.name), found))
    return store


def _read_manifest(path: str | Path) -> Manifest:
    where = storage.join(path, MANIFEST)
    try:
        values = storage.read_json(where)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: no store here ({MANIFEST} is missing); name a store, or finish `python -m renalnet prepare`"
        ) from error
    except InputError as error:
        raise StoreError(f"{error}") from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise StoreError(f"{where}: version {version!r}, this program reads {VERSION}; prepare the store again")
    try:
        return Manifest.from_json(values)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise StoreError(f"{where}: not understood ({error}); restore it or prepare the store again") from error


class StoreWriter:
    """Writes ROIs one at a time; the folder becomes a store when `finish` writes the manifest.

    Shards left by a run that was interrupted are removed first: without a manifest nothing refers to them.

    Raises:
        StoreError: the folder already holds a store.
    """

    def __init__(self, path: str | Path, config: PrepareConfig) -> None:
        if storage.exists(storage.join(path, MANIFEST)):
            raise StoreError(f"{path}: holds a store already; choose another folder or remove it")
        for name in storage.list_names(storage.join(path, SHARDS)):
            if _SHARD_NAME.fullmatch(name):
                storage.delete(storage.join(path, SHARDS, name))
        self._path, self._config, self._fingerprint = path, config, fingerprint(config)
        self._open: dict[Split, ShardBuilder] = {}
        self._shards: dict[Split, list[ShardEntry]] = {split: [] for split in SPLITS}
        self._cases: list[CaseEntry] = []
        self._clipped_sum, self._num_train_voxels = 0, 0

    def add(self, roi: Roi) -> None:
        """Write an ROI. Raises StoreError where its case is there already or arrays and grid differ."""
        self._check(roi)
        builder = self._open.setdefault(roi.split, ShardBuilder())
        columns = {"case": roi.case, "split": roi.split, "config_fingerprint": self._fingerprint}
        rows = slab_rows(columns, roi.image, roi.label, roi.grid, self._config.slab_slices)
        entry = self._entry(roi, builder.num_rows, rows.num_rows)
        builder.append(rows, roi.case, entry.to_json())
        self._cases.append(entry)
        if roi.split == "train":
            # Whole numbers: the mean does not depend on the order of the cases.
            self._clipped_sum += int(np.clip(roi.image, self._config.hu_min, self._config.hu_max).sum(dtype=np.int64))
            self._num_train_voxels += roi.image.size
        if builder.num_bytes >= self._config.shard_mb * 2**20:
            self._flush(roi.split)

    def finish(
        self,
        normalisation: Normalisation | None = None,
        notes: Sequence[str] = (),
        about: Provenance = UNKNOWN,
    ) -> Store:
        """Write what is still open, then the manifest.

        Raises:
            StoreError: there is neither a training ROI nor a normalisation.
        """
        normalisation = normalisation or self._normalisation()
        for split in list(self._open):
            self._flush(split)
        shards = tuple(shard for split in SPLITS for shard in self._shards[split])
        manifest = Manifest(self._config, normalisation, tuple(self._cases), shards, tuple(notes), about)
        storage.write_json(storage.join(self._path, MANIFEST), manifest.to_json())
        return Store(str(self._path), manifest)

    def _check(self, roi: Roi) -> None:
        if any(entry.case == roi.case for entry in self._cases):
            raise StoreError(f"case '{roi.case}' comes twice; case names must be unique")
        if not roi.image.shape == roi.label.shape == roi.grid.shape:
            raise StoreError(
                f"case '{roi.case}': image {roi.image.shape}, label {roi.label.shape} and grid "
                f"{roi.grid.shape} differ; cut image and label on one grid"
            )

    def _entry(self, roi: Roi, first_row: int, num_rows: int) -> CaseEntry:
        background, kidney, tumor = (int(n) for n in np.bincount(roi.label.ravel(), minlength=NUM_CLASSES))
        return CaseEntry(
            case=roi.case,
            split=roi.split,
            shard=self._shard_name(roi.split),
            first_row=first_row,
            num_rows=num_rows,
            shape=roi.grid.shape,
            counts=(background, kidney, tumor),
            grid=roi.grid,
            source=roi.source,
            notes=roi.notes,
        )

    def _shard_name(self, split: Split) -> str:
        return f"{split}-{len(self._shards[split]):05d}.parquet"

    def _flush(self, split: Split) -> None:
        content = self._open.pop(split).finish()
        name = self._shard_name(split)
        storage.write_bytes(storage.join(self._path, SHARDS, name), content)
        self._shards[split].append(ShardEntry(name, len(content), hashlib.sha256(content).hexdigest()))

    def _normalisation(self) -> Normalisation:
        low, high = self._config.hu_min, self._config.hu_max
        if self._num_train_voxels == 0:
            raise StoreError(
                f"{self._path}: no training ROI to take the mean of; add training cases or a normalisation"
            )
        mean_hu = self._clipped_sum / self._num_train_voxels
        return Normalisation(low, high, (mean_hu - low) / (high - low))


def write_store(
    path: str | Path,
    rois: Iterable[Roi],
    config: PrepareConfig,
    *,
    normalisation: Normalisation | None = None,
    notes: Sequence[str] = (),
    about: Provenance = UNKNOWN,
) -> Store:
    """Write a whole store, one ROI in memory at a time beside the shards being filled.

    Args:
        normalisation: kept from an earlier preparation; computed from the training ROIs if absent.
        notes: warnings for the manifest.
        about: where the scans came from.

    Raises:
        StoreError: the folder already holds a store, a case comes twice, or there is neither a training ROI
            nor a normalisation.
    """
    writer = StoreWriter(path, config)
    for roi in rois:
        writer.add(roi)
    return writer.finish(normalisation, notes, about)
