"""The store of ROIs: Parquet shards, one row a z-slab of an ROI, an index of the patients, a manifest written last.

    STORE/manifest.json                  configuration, normalisation, sizes and checksums of the files below
    STORE/index-HASH.parquet             a row a patient: split, size, class counts, geometry, the way back
    STORE/facts-HASH.parquet             what the checks measured of each patient
    STORE/atlas-HASH.safetensors         the atlases by which kidneys were found
    STORE/shards/train-HASH.parquet      int16 HU and uint8 labels; patients whole within a shard, splits apart

Files are named by their content, so whatever a manifest names is what was meant. A folder without a manifest is no
store yet, a reader never sees half of one. Any `pyarrow.fs` path will do.
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

from renalnet.data.images.volume import Grid
from renalnet.data.store.class_locations import ClassLocations
from renalnet.data.store.manifest import VERSION, CaseEntry, CaseIndex, FileEntry, Manifest, Normalisation
from renalnet.data.store.shards import read_class_locations, read_slabs
from renalnet.errors import ConfigError, InputError, StoreError, nearest
from renalnet.runtime import storage
from renalnet.types import SPLITS, HuArray, LabelArray, Split, Triple

MANIFEST: Final = "manifest.json"
SHARDS: Final = "shards"
_CHUNK_BYTES: Final = 2**22
_OTHER_CHECKSUM: Final = "its checksum is not the manifest's"


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
    index: CaseIndex

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
        return self.index.cases(split)

    def entry(self, case: str) -> CaseEntry:
        """What the index says of a case. Raises StoreError for an unknown one."""
        try:
            return self.index.entry(case)
        except KeyError as error:
            raise StoreError(f"{self.path}: no case '{case}'; {nearest(case, self.cases())}") from error

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
        with self._shard(entry.shard) as file:
            return self._slices(file, entry, start, stop)

    def class_locations(self, case: str) -> ClassLocations:
        """Where the classes of a case lie; reads no pixel. Raises StoreError as `read` does."""
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            return read_class_locations(file, case, _rows(entry))

    def read_with_class_locations(self, case: str) -> tuple[Roi, ClassLocations]:
        """`read` and `locations` in one opening of the shard. Raises StoreError as `read` does."""
        entry = self.entry(case)
        with self._shard(entry.shard) as file:
            image, label = self._slices(file, entry, 0, entry.shape[0])
            locations = read_class_locations(file, case, _rows(entry))
        return Roi(case, entry.split, image, label, entry.grid, entry.source, entry.notes), locations

    def read_split(self, split: Split) -> list[Roi]:
        """The ROIs of a split, in the order of `cases`. Raises StoreError."""
        return [self.read(case) for case in self.cases(split)]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare each file with its checksum. Raises StoreError naming the first that differs.

        Args:
            progress: told how many files of how many are done.
        """
        files = [(storage.join(self.path, entry.name), entry) for entry in self.manifest.beside]
        files += [(self._path(shard.name), shard) for shard in self.manifest.shards]
        for done, (path, entry) in enumerate(files, start=1):
            _check_content(path, entry)
            if progress:
                progress(done, len(files))

    def read_beside(self, entry: FileEntry) -> bytes:
        """The content of one of the files beside the shards. Raises StoreError where it is missing or damaged."""
        return _read_checked(storage.join(self.path, entry.name), entry)

    @property
    def atlas_path(self) -> str | None:
        """Where the atlases lie; none in a store that was written without."""
        return storage.join(self.path, self.manifest.atlas.name) if self.manifest.atlas else None

    def describe(self) -> list[dict[str, Any]]:
        """A row a split: cases, mean ROI size, class shares of the voxels, bytes on disk."""
        return [self._describe(split) for split in SPLITS if self.cases(split)]

    def _describe(self, split: Split) -> dict[str, Any]:
        totals, shards = self.index.totals(split), self.index.shards(split)
        return {
            "split": split,
            "cases": len(self.cases(split)),
            "mean_shape": tuple(round(length, 1) for length in self.index.mean_shape(split)),
            **dict(zip(("background", "kidney", "tumor"), (totals / totals.sum()).tolist(), strict=True)),
            "num_bytes": sum(shard.num_bytes for shard in self.manifest.shards if shard.name in shards),
        }

    def _slices(self, file: pq.ParquetFile, entry: CaseEntry, start: int, stop: int) -> tuple[HuArray, LabelArray]:
        shape = (stop - start, *entry.shape[1:])
        image, label = np.empty(shape, np.int16), np.empty(shape, np.uint8)
        slab = self.manifest.config.slab_slices
        rows = range(entry.first_row + start // slab, entry.first_row + -(-stop // slab))
        for z_start, pixels, classes in read_slabs(file, entry.case, rows):
            low, high = max(start, z_start), min(stop, z_start + len(pixels))
            image[low - start : high - start] = pixels[low - z_start : high - z_start]
            label[low - start : high - start] = classes[low - z_start : high - z_start]
        return image, label

    def _path(self, shard: str) -> str:
        return storage.join(self.path, SHARDS, shard)

    @contextmanager
    def _shard(self, name: str) -> Iterator[pq.ParquetFile]:
        """An open shard, whose content was compared with its checksum once in this process."""
        path = self._path(name)
        filesystem, inner = storage.resolve(path)
        try:
            info = filesystem.get_file_info(inner)
            _checked(path, self._file_entry(name), (info.size, info.mtime_ns))
            # Pages are compared with their own checksums again on reading: disks forget, and this costs little.
            with (
                filesystem.open_input_file(inner) as stream,
                pq.ParquetFile(stream, page_checksum_verification=True) as file,
            ):
                yield file
        except (pa.ArrowException, OSError, KeyError, IndexError, ValueError) as error:
            if isinstance(error, StoreError):
                raise StoreError(_damaged(path, str(error)) if path not in str(error) else str(error)) from error
            raise StoreError(_damaged(path, str(error))) from error

    def _file_entry(self, name: str) -> FileEntry:
        return next(shard for shard in self.manifest.shards if shard.name == name)


def _rows(entry: CaseEntry) -> range:
    return range(entry.first_row, entry.first_row + entry.num_rows)


@cache
def _checked(path: str, entry: FileEntry, size_and_time: tuple[int | None, int | None]) -> None:
    """`_check_content`, once a process for a file of the same size and time."""
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
    words = " ".join(reason.split())
    return f"{path}: damaged or foreign file ({words}); restore it or prepare the store again"


def open_store(path: str | Path) -> Store:
    """Open a store: read its manifest and index, and compare its shards' sizes with the manifest.

    Raises:
        StoreError: there is no manifest, it cannot be understood, the index is damaged, or a shard is missing or
            of another size.
    """
    manifest = read_manifest(path)
    index = _read_index(storage.join(path, manifest.index.name), manifest.index)
    sizes = storage.list_sizes(storage.join(path, SHARDS))
    for shard in manifest.shards:
        if sizes.get(shard.name) != shard.num_bytes:
            size = sizes.get(shard.name)
            found = "it is missing" if size is None else f"{size} bytes where the manifest says {shard.num_bytes}"
            raise StoreError(_damaged(storage.join(path, SHARDS, shard.name), found))
    return Store(str(path), manifest, index)


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a store. Raises StoreError where there is none or it cannot be understood."""
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
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise StoreError(f"{where}: not understood ({error}); restore it or prepare the store again") from error


def _read_index(path: str, entry: FileEntry) -> CaseIndex:
    try:
        return CaseIndex.from_bytes(_read_checked(path, entry))
    except (pa.ArrowException, ValueError) as error:
        raise error if isinstance(error, StoreError) else StoreError(_damaged(path, str(error))) from error


def _read_checked(path: str, entry: FileEntry) -> bytes:
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise StoreError(_damaged(path, str(error))) from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise StoreError(_damaged(path, _OTHER_CHECKSUM))
    return content
