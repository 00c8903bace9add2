"""Reading of a store of ROIs: Parquet shards of z-slabs, an index of the cases, and a manifest.

    STORE/manifest.json                  configuration, normalisation, sizes and checksums of the files below
    STORE/index-HASH.parquet             one row per case: split, size, class counts, geometry, grid of the scan
    STORE/facts-HASH.parquet             facts of each case, as the checks measured them
    STORE/atlas-HASH.safetensors         atlases by which kidneys were found
    STORE/localiser-HASH.safetensors     weights of the coarse network by which they were found
    STORE/shards/train-HASH.parquet      int16 HU and uint8 labels; a case is in one shard, a shard in one split

Files are named by their content, so that a name in the manifest always means the same content. The manifest is written
last and a folder without one is no store, so that a reader never sees half a store. Any `pyarrow.fs` path can be used.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.config import LabelSet, Normalisation
from renalnet.data.images.volume import Grid
from renalnet.data.store.class_locations import ClassLocations
from renalnet.data.store.index import CaseEntry, CaseIndex
from renalnet.data.store.manifest import VERSION, FileEntry, Manifest
from renalnet.data.store.shards import read_class_locations, read_slabs
from renalnet.errors import ConfigError, InputError, StoreError, nearest
from renalnet.runtime import storage
from renalnet.types import SPLITS, HuArray, LabelArray, Split, Triple

MANIFEST: Final = "manifest.json"
SHARDS: Final = "shards"
# Checksums are computed in parts, so that no shard has to fit in memory.
_CHUNK_BYTES: Final = 2**22
_MAX_MANIFEST_BYTES: Final = 2**28
"""Size of the largest manifest that is read. One of 100,000 shards has less than a tenth of it."""
_OTHER_CHECKSUM: Final = "checksum differs from the manifest"


@dataclass(frozen=True)
class Roi:
    """The region of interest of one case."""

    case: str
    split: Split
    image: HuArray
    """CT numbers (z, y, x)."""
    label: LabelArray
    """Labels (z, y, x)."""
    grid: Grid
    """Grid of the ROI, whose direction is the identity."""
    source: Grid
    """Grid of the scan as its file states it, by which a mask is resampled back to the scan."""
    notes: tuple[str, ...] = ()
    """Deviations of the preparation, e.g. that the ROI was enlarged."""

    @property
    def spacing_mm(self) -> Triple:
        """Voxel spacing as (z, y, x)."""
        return self.grid.spacing_mm


@dataclass(frozen=True)
class Store:
    """An opened store. It has no open file, so that it can be sent to another process."""

    path: str
    manifest: Manifest
    index: CaseIndex

    @property
    def normalisation(self) -> Normalisation:
        """Conversion of CT numbers to network input."""
        return self.manifest.normalisation

    @property
    def labels(self) -> LabelSet:
        """The labels of the label maps."""
        return self.manifest.config.labels

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on the cases, the configuration and the normalisation."""
        return self.manifest.fingerprint

    def cases(self, split: Split | None = None) -> list[str]:
        """Return the sorted names of the cases of one split, or of all."""
        return self.index.cases(split)

    def entry(self, case: str) -> CaseEntry:
        """Return the index entry of a case. Raises StoreError for an unknown or impossible one."""
        try:
            entry = self.index.entry(case)
        except KeyError as error:
            raise StoreError(f"{self.path}: no case '{case}'; {nearest(case, self.cases())}") from error
        if entry.num_rows != -(-entry.shape[0] // self.manifest.config.slab_slices):
            raise StoreError(
                f"{self.path}: case '{case}' of {entry.shape[0]} slices does not have {entry.num_rows} rows of "
                f"{self.manifest.config.slab_slices} slices; restore the store or prepare it again"
            )
        return entry

    def read(self, case: str) -> Roi:
        """Return the ROI of a case; only its rows are read.

        Raises:
            StoreError: the case is unknown, or its shard is damaged or foreign.
        """
        entry = self.entry(case)
        image, label = self.read_slices(case, 0, entry.shape[0])
        return Roi(case, entry.split, image, label, entry.grid, entry.source, entry.notes)

    def read_slices(self, case: str, start: int, stop: int) -> tuple[HuArray, LabelArray]:
        """Return image and labels of slices `start` to `stop` (exclusive) of an ROI; only their rows are read.

        Raises:
            StoreError: the case is unknown, or its shard is damaged or foreign.
        """
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            return self._slices(file, entry, start, stop)

    def class_locations(self, case: str) -> ClassLocations:
        """Return the locations of the classes of a case without reading voxels. Raises StoreError as `read` does."""
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            return read_class_locations(file, case, _rows(entry), self.labels)

    def read_with_class_locations(self, case: str) -> tuple[Roi, ClassLocations]:
        """Return `read` and `class_locations` of a case, opening its shard once. Raises StoreError as `read` does."""
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            image, label = self._slices(file, entry, 0, entry.shape[0])
            locations = read_class_locations(file, case, _rows(entry), self.labels)
        return Roi(case, entry.split, image, label, entry.grid, entry.source, entry.notes), locations

    def read_split(self, split: Split) -> list[Roi]:
        """Return the ROIs of a split, in the order of `cases`. Raises StoreError as `read` does."""
        return [self.read(case) for case in self.cases(split)]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare each file with its checksum.

        Args:
            progress: called with (number of verified files, number of all files) after each file.

        Raises:
            StoreError: a file is missing or differs from its checksum; the message names the first one.
        """
        files = [(storage.join(self.path, entry.name), entry) for entry in self.manifest.beside]
        files += [(self._path(shard.name), shard) for shard in self.manifest.shards]
        for done, (path, entry) in enumerate(files, start=1):
            _check_content(path, entry)
            if progress:
                progress(done, len(files))

    def read_beside(self, entry: FileEntry) -> bytes:
        """Return the content of a file beside the shards. Raises StoreError where it is missing or damaged."""
        return _read_checked(storage.join(self.path, entry.name), entry)

    @property
    def atlas_path(self) -> str | None:
        """Path of the atlases; None in a store that was written without atlases."""
        return storage.join(self.path, self.manifest.atlas.name) if self.manifest.atlas else None

    def describe(self) -> list[dict[str, Any]]:
        """Return one row per split that has cases: cases, mean ROI size, class shares of the voxels, bytes on disk."""
        return [self._describe(split) for split in SPLITS if self.cases(split)]

    def _describe(self, split: Split) -> dict[str, Any]:
        totals = self.index.totals(split)
        shards = self.index.shards(split)
        return {
            "split": split,
            "cases": len(self.cases(split)),
            "mean_shape": tuple(round(length, 1) for length in self.index.mean_shape(split)),
            **dict(zip(self.labels.class_names, (totals / totals.sum()).tolist(), strict=True)),
            "num_bytes": sum(shard.num_bytes for shard in self.manifest.shards if shard.name in shards),
        }

    def _slices(self, file: pq.ParquetFile, entry: CaseEntry, start: int, stop: int) -> tuple[HuArray, LabelArray]:
        shape = (stop - start, *entry.shape[1:])
        image = np.empty(shape, np.int16)
        label = np.empty(shape, np.uint8)
        slab = self.manifest.config.slab_slices
        # All slabs but the last have `slab_slices` slices, so row numbers follow from slices. The division rounds up.
        rows = range(entry.first_row + start // slab, entry.first_row + -(-stop // slab))
        for row, (z_start, pixels, classes) in zip(rows, read_slabs(file, entry.case, rows), strict=True):
            first = (row - entry.first_row) * slab
            if z_start != first or pixels.shape != (min(slab, entry.shape[0] - first), *entry.shape[1:]):
                raise StoreError(f"row {row} holds {pixels.shape} voxels from slice {z_start} on, unlike the index")
            low = max(start, z_start)
            high = min(stop, z_start + len(pixels))
            image[low - start : high - start] = pixels[low - z_start : high - z_start]
            label[low - start : high - start] = classes[low - z_start : high - z_start]
        return image, label

    def _path(self, shard: str) -> str:
        return storage.join(self.path, SHARDS, shard)

    @contextmanager
    def _shard(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a shard; its content is compared with its checksum once in this process."""
        entry = self._file_entry(name)
        path = self._path(name)
        filesystem, inner = storage.resolve(path)
        try:
            info = filesystem.get_file_info(inner)
            _checked(path, entry, (info.size, info.mtime_ns))
            # Pages are also compared with their own checksums, because a disk may fail later and this costs little.
            with (
                filesystem.open_input_file(inner) as stream,
                pq.ParquetFile(stream, page_checksum_verification=True) as file,
            ):
                yield file
        # A Parquet file of another program may lack columns (KeyError) or values (IndexError).
        except (pa.ArrowException, OSError, KeyError, IndexError, OverflowError, TypeError, ValueError) as error:
            # A StoreError of `_checked` names the file already; one of `read_slabs` names only a row.
            names_file = isinstance(error, StoreError) and path in str(error)
            raise StoreError(str(error) if names_file else _damaged(path, str(error))) from error

    def _file_entry(self, name: str) -> FileEntry:
        found = next((shard for shard in self.manifest.shards if shard.name == name), None)
        if found is None:
            raise StoreError(f"{self.path}: the index names a shard {name!r:.200}, which the manifest does not list")
        return found


def _rows(entry: CaseEntry) -> range:
    return range(entry.first_row, entry.first_row + entry.num_rows)


# `cache` does not keep exceptions, so a file that was restored is read again.
@cache
def _checked(path: str, entry: FileEntry, size_and_time: tuple[int | None, int | None]) -> None:
    """Compare a file with its entry; once per process while its size and time stay the same."""
    num_bytes, _ = size_and_time
    if num_bytes != entry.num_bytes:
        found = "it is missing" if num_bytes is None else f"{num_bytes} bytes where the manifest says {entry.num_bytes}"
        raise StoreError(_damaged(path, found))
    _check_content(path, entry)


def _check_content(path: str, entry: FileEntry) -> None:
    filesystem, inner = storage.resolve(path)
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_stream(inner) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise StoreError(_damaged(path, str(error))) from error
    if digest.hexdigest() != entry.sha256:
        raise StoreError(_damaged(path, _OTHER_CHECKSUM))


def _damaged(path: str, reason: str) -> str:
    one_line = " ".join(reason.split())  # messages of arrow may have several lines
    return f"{path}: damaged or foreign file ({one_line}); restore it or prepare the store again"


def open_store(path: str | Path) -> Store:
    """Open a store: read its manifest and index, and compare the sizes of its shards with the manifest.

    Raises:
        StoreError: the manifest is missing or not understood, the index is damaged, or a shard is missing or of another
            size.
    """
    manifest = read_manifest(path)
    index = _read_index(storage.join(path, manifest.index.name), manifest.index, manifest.config.labels)
    # One listing instead of a request for each shard, which an object store answers slowly.
    sizes = storage.list_sizes(storage.join(path, SHARDS))
    for shard in manifest.shards:
        if sizes.get(shard.name) != shard.num_bytes:
            size = sizes.get(shard.name)
            found = "it is missing" if size is None else f"{size} bytes where the manifest says {shard.num_bytes}"
            raise StoreError(_damaged(storage.join(path, SHARDS, shard.name), found))
    return Store(str(path), manifest, index)


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a store. Raises StoreError where it is missing or not understood."""
    where = storage.join(path, MANIFEST)
    try:
        values = storage.read_json(where, max_bytes=_MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: no store here ({MANIFEST} is missing); choose a store, or finish `python -m renalnet prepare`"
        ) from error
    except InputError as error:
        raise StoreError(f"{error}") from error
    # Compared before anything else is read, because fields differ between versions.
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise StoreError(f"{where}: version {version!r}, this program reads {VERSION}; prepare the store again")
    try:
        return Manifest.from_json(values)
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise StoreError(f"{where}: not understood ({error}); restore it or prepare the store again") from error


def _read_index(path: str, entry: FileEntry, labels: LabelSet) -> CaseIndex:
    try:
        return CaseIndex.from_bytes(_read_checked(path, entry), labels)
    except (pa.ArrowException, ValueError) as error:
        # A StoreError is a ValueError too; that of `_read_checked` names the file already.
        raise error if isinstance(error, StoreError) else StoreError(_damaged(path, str(error))) from error


def _read_checked(path: str, entry: FileEntry) -> bytes:
    try:
        content = storage.read_bytes(path, max_bytes=entry.num_bytes)
    except (OSError, InputError) as error:
        raise StoreError(_damaged(path, str(error))) from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise StoreError(_damaged(path, _OTHER_CHECKSUM))
    return content
