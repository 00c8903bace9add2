"""Writing of a store: a new one, the rest of an interrupted one, or more cases for an existing one."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from renalnet.config import Normalisation, PrepareConfig, fingerprint
from renalnet.data.cases.names import name_fault
from renalnet.data.store.index import WRONG_VALUES, CaseEntry, CaseIndex, Origin, require_possible
from renalnet.data.store.manifest import FileEntry, Manifest, Provenance
from renalnet.data.store.reader import MANIFEST, SHARDS, Roi, Store, read_manifest
from renalnet.data.store.shards import ShardBuilder, read_footer, slab_rows
from renalnet.errors import BusyError, StoreError
from renalnet.runtime import storage
from renalnet.types import SPLITS, Split

UNKNOWN: Final = Provenance()
UNKNOWN_ORIGIN: Final = Origin()
_SHARD_NAME: Final = re.compile(rf"({'|'.join(SPLITS)})-[0-9a-f]{{16}}\.parquet")
_BESIDE_NAME: Final = re.compile(r"(index|facts|atlas|localiser)-[0-9a-f]{16}\.(parquet|safetensors)")
# A name as `storage.temporary_name` gives it, left over from a killed process.
_TEMPORARY_NAME: Final = re.compile(r"\..*\.parquet\.[0-9a-f]{8}\.tmp")


class StoreWriter:
    """Writer of ROIs, which are added one at a time; `finish` commits them by writing the manifest.

    Memory holds the shards that are being filled and a compact index. Until the manifest is written, readers see the
    store as it was before.
    """

    def __init__(self, path: str | Path, config: PrepareConfig, *, base: Store | None = None) -> None:
        """Begin to write; nothing is written yet.

        Args:
            path: folder of the store.
            config: settings by which the ROIs were cut.
            base: existing store to which cases are added.
        """
        self._path = path
        self._config = config
        self._run = ""
        self._fingerprint = fingerprint(config)
        # Kept to notice at the end that another writer has committed meanwhile.
        self._before = base.manifest if base else None
        # A store of an older version keeps its kind of fingerprint.
        self._has_content = base is None or bool(base.manifest.content)
        self._parts = [base.index] if base else []
        self._shards = {shard.name: shard for shard in base.manifest.shards} if base else {}
        self._names = set(base.cases()) if base else set[str]()
        self._open: dict[Split, ShardBuilder] = {}
        self._waiting: dict[Split, list[CaseEntry]] = {split: [] for split in SPLITS}

    def adopt(self, run: str, wanted: Callable[[CaseEntry], bool]) -> set[str]:
        """Take over complete shards of an interrupted run.

        Args:
            run: name of everything that decides how a case is cut. Only shards of a run of the same name are taken
                over, and later shards get this name.
            wanted: whether a case of such a shard is still to be written as the shard has it.

        Returns:
            The cases in the shards that were taken over.
        """
        self._run = run
        left = [name for name in storage.list_names(storage.join(self._path, SHARDS)) if name not in self._shards]
        return {case for name in left if _SHARD_NAME.fullmatch(name) for case in self._adopt(name, wanted)}

    def add(self, roi: Roi, origin: Origin = UNKNOWN_ORIGIN) -> None:
        """Write an ROI. Raises StoreError where the store has its case already, or arrays and grid differ in shape."""
        self._check(roi)
        builder = self._open.setdefault(roi.split, ShardBuilder(self._run, self._config.labels))
        columns = {"case": roi.case, "split": roi.split, "config_fingerprint": self._fingerprint}
        rows = slab_rows(columns, roi.image, roi.label, roi.grid, self._config.slab_slices, self._config.labels)
        entry = self._entry(roi, origin, builder.num_rows, rows.num_rows)
        builder.append(rows, roi.case, entry.to_json())
        self._names.add(roi.case)
        self._waiting[roi.split].append(entry)
        if builder.num_bytes >= self._config.shard_mb * 2**20:
            self._flush(roi.split)

    def write_beside(self, prefix: Literal["index", "facts", "atlas", "localiser"], content: bytes) -> FileEntry:
        """Write a file beside the shards; it belongs to the store after it was passed to `finish`."""
        entry = FileEntry.of(prefix, content, "safetensors" if prefix in ("atlas", "localiser") else "parquet")
        storage.write_bytes(storage.join(self._path, entry.name), content)
        return entry

    def finish(
        self,
        normalisation: Normalisation | None = None,
        notes: Sequence[str] = (),
        about: Provenance = UNKNOWN,
        *,
        atlas: FileEntry | None = None,
        localiser: FileEntry | None = None,
        facts: FileEntry | None = None,
    ) -> Store:
        """Write the open shards, the index, and last the manifest; remove files that the manifest does not name.

        Args:
            normalisation: normalisation of the existing store; computed from the training ROIs if absent.
            notes: warnings for the manifest.
            about: origin of the scans; its digest is computed here.
            atlas: file of the atlases, from `write_beside`.
            localiser: file of the coarse network, from `write_beside`.
            facts: file of the facts, from `write_beside`.

        Raises:
            StoreError: there is neither a training ROI nor a normalisation.
            BusyError: another writer has changed the store meanwhile; the store stays as that writer left it.
        """
        for split in list(self._open):
            self._flush(split)
        index = CaseIndex.joined(self._parts, self._config.labels)
        normalisation = normalisation or self._normalisation(index)
        shards = tuple(self._shards[name] for name in sorted(self._shards))
        entry = self.write_beside("index", index.to_bytes())
        about = replace(about, digest=index.digest())
        manifest = Manifest(
            *(self._config, normalisation, entry, shards, atlas, facts, tuple(notes), about, localiser),
            content=index.content_digest() if self._has_content else "",
        )
        # Checked as late as possible, because another writer may commit until the next line.
        self._refuse_other_writer()
        storage.write_json(storage.join(self._path, MANIFEST), manifest.to_json())
        # After the manifest: an interruption leaves superfluous files, but never a manifest without its files.
        self._sweep({entry.name for entry in manifest.beside})
        return Store(str(self._path), manifest, index)

    def _adopt(self, name: str, wanted: Callable[[CaseEntry], bool]) -> list[str]:
        """Take over one shard; returns no case where it is damaged, of another run, or no longer wanted as it is."""
        content = storage.read_bytes(storage.join(self._path, SHARDS, name))
        shard = FileEntry.of(name.partition("-")[0], content)
        # The name is a hash of the content, so another name means a damaged file.
        if shard.name != name:
            return []
        try:
            run, about = read_footer(content)
            entries = [replace(CaseEntry.from_json(values), shard=name) for values in about.values()]
            require_possible(CaseIndex.of(entries, self._config.labels))
        except (pa.ArrowException, *WRONG_VALUES):
            return []
        # All or none, because single rows cannot be removed from a shard.
        if run != self._run or not all(wanted(entry) and entry.case not in self._names for entry in entries):
            return []
        self._commit(shard, entries)
        self._names |= {entry.case for entry in entries}
        return [entry.case for entry in entries]

    def _check(self, roi: Roi) -> None:
        if fault := name_fault(roi.case):
            raise StoreError(f"case {roi.case!r}: {fault}; rename its folder")
        if roi.case in self._names:
            raise StoreError(f"case '{roi.case}' comes twice, but case names must be unique; rename one of them")
        if not roi.image.shape == roi.label.shape == roi.grid.shape:
            raise StoreError(
                f"case '{roi.case}': image {roi.image.shape}, label {roi.label.shape} and grid "
                f"{roi.grid.shape} differ; cut image and label on one grid"
            )
        if (highest := int(roi.label.max())) >= self._config.labels.num_classes:
            raise StoreError(
                f"case '{roi.case}': label {highest} is none of {self._config.labels}; "
                "choose a label set that has it, or map it to another label"
            )

    def _entry(self, roi: Roi, origin: Origin, first_row: int, num_rows: int) -> CaseEntry:
        counts = np.bincount(roi.label.ravel(), minlength=self._config.labels.num_classes)
        clipped = np.clip(roi.image, self._config.hu_min, self._config.hu_max)
        return CaseEntry(
            case=roi.case,
            split=roi.split,
            shard="",  # set by `_flush`: the name of a shard is a hash of its content
            first_row=first_row,
            num_rows=num_rows,
            shape=roi.grid.shape,
            counts=tuple(counts.tolist()),
            clipped_sum=int(clipped.sum(dtype=np.int64)),  # an integer, so that the mean is independent of the order
            grid=roi.grid,
            source=roi.source,
            notes=roi.notes,
            origin=origin,
        )

    def _flush(self, split: Split) -> None:
        content = self._open.pop(split).finish()
        shard = FileEntry.of(split, content)
        storage.write_bytes(storage.join(self._path, SHARDS, shard.name), content)
        entries = self._waiting[split]
        self._waiting[split] = []
        self._commit(shard, [replace(entry, shard=shard.name) for entry in entries])

    def _commit(self, shard: FileEntry, entries: Iterable[CaseEntry]) -> None:
        self._shards[shard.name] = shard
        self._parts.append(CaseIndex.of(entries, self._config.labels))

    def _normalisation(self, index: CaseIndex) -> Normalisation:
        low = self._config.hu_min
        high = self._config.hu_max
        num_voxels = int(index.totals("train").sum())
        if num_voxels == 0:
            raise StoreError(
                f"{self._path}: no training ROI to take the mean of; add training cases or pass a normalisation"
            )
        mean_hu = index.clipped_sum("train") / num_voxels
        return Normalisation(low, high, (mean_hu - low) / (high - low))

    def _refuse_other_writer(self) -> None:
        """Raise BusyError where another writer has changed the store since this one began.

        A lease keeps other writers away. Where it failed to, the first writer to commit wins.
        """
        there = read_manifest(self._path) if storage.exists(storage.join(self._path, MANIFEST)) else None
        sizes = storage.list_sizes(storage.join(self._path, SHARDS))
        # The sweep of another writer removes what its manifest does not name, also new shards of this one.
        missing = [shard.name for shard in self._shards.values() if sizes.get(shard.name) != shard.num_bytes]
        if there != self._before or missing:
            raise BusyError(f"{self._path}: another writer changed the store meanwhile; repeat the command")

    def _sweep(self, beside: set[str]) -> None:
        """Remove the files of interrupted runs and those that only the previous manifest named."""
        for folder, kept in ((self._path, beside), (storage.join(self._path, SHARDS), set(self._shards))):
            for name in storage.list_names(folder):
                ours = any(pattern.fullmatch(name) for pattern in (_SHARD_NAME, _BESIDE_NAME, _TEMPORARY_NAME))
                if ours and name not in kept:
                    storage.delete(storage.join(folder, name))


def write_store(
    path: str | Path,
    rois: Iterable[Roi],
    config: PrepareConfig,
    *,
    normalisation: Normalisation | None = None,
    notes: Sequence[str] = (),
    about: Provenance = UNKNOWN,
) -> Store:
    """Write a whole new store; memory holds one ROI and the shards that are being filled.

    Args:
        path: folder of the store.
        rois: the ROIs, in any order; iterated once.
        config: settings by which the ROIs were cut.
        normalisation: normalisation of an earlier store; computed from the training ROIs if absent.
        notes: warnings for the manifest.
        about: origin of the scans.

    Raises:
        StoreError: the folder already has a store, a case comes twice, or there is neither a training ROI nor a
            normalisation.
    """
    if storage.exists(storage.join(path, MANIFEST)):
        raise StoreError(f"{path}: holds a store already; choose another folder or remove it")
    writer = StoreWriter(path, config)
    for roi in rois:
        writer.add(roi)
    return writer.finish(normalisation, notes, about)
