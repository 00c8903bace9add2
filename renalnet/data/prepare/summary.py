"""Summary of a preparation, from the store that it wrote."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from renalnet.data.cases.roi import GROWN
from renalnet.data.prepare.case_jobs import NOT_LOCALISED
from renalnet.data.store.reader import open_store
from renalnet.types import SPLITS, Split


@dataclass(frozen=True)
class PrepareSummary:
    """Result of a preparation."""

    path: str
    """Path of the store."""
    num_cases: dict[Split, int]
    class_shares: dict[Split, dict[str, float]]
    """Share of each class among the voxels of a split, 0-1, by its name."""
    num_grown: int
    """Number of ROIs that were enlarged to contain every labelled voxel."""
    num_not_localised: int
    """Number of cases whose kidney was not found, so that the label gave the box."""
    notes: tuple[str, ...]
    """Warnings of the preparation."""
    num_added: int = 0
    """Number of cases that this preparation wrote."""
    skipped: tuple[str, ...] = ()
    """Bad scans that were left out, with the reasons."""


def summarise(path: str | Path) -> PrepareSummary:
    """Return the summary of a prepared store. Raises StoreError where it cannot be opened."""
    store = open_store(path)
    totals = {split: store.index.totals(split) for split in SPLITS if store.cases(split)}
    shares = {split: total / total.sum() for split, total in totals.items()}
    notes = Counter(note for entry in store.index.entries() for note in entry.notes)
    return PrepareSummary(
        path=str(path),
        num_cases={split: len(store.cases(split)) for split in SPLITS},
        class_shares={
            split: dict(zip(store.labels.class_names, share.tolist(), strict=True)) for split, share in shares.items()
        },
        num_grown=notes[GROWN],
        num_not_localised=notes[NOT_LOCALISED],
        notes=store.manifest.notes,
    )
