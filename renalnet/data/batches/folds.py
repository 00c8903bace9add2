"""Cross-validation within a store: its training and validation cases are dealt into folds; test cases stay.

The mean of the intensities and the atlases were fitted when the store was prepared. They stay those of the store's own
training cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from renalnet.data.cases.splits import unit_hash
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.types import Split

FOLD_SPLITS: Final[tuple[Split, Split]] = ("train", "validation")
"""Splits whose cases are dealt into folds."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation, whose cases are the validation cases; the others are the training cases."""

    number: int
    """Number of the fold, from 0."""
    num_folds: int
    seed: int
    """Seed of the assignment; the same for all folds of one cross-validation."""

    def __str__(self) -> str:
        """Return the name of the fold, e.g. `fold-0-of-5-seed-7`."""
        return f"fold-{self.number}-of-{self.num_folds}-seed-{self.seed}"


def in_fold(store: Store, fold: Fold) -> Store:
    """Return the same store with the splits of a fold.

    Raises:
        ConfigError: there are fewer cases than folds.
    """
    has_tumor = {
        case: bool(counts[store.labels.tumor.value])
        for split in FOLD_SPLITS
        for case, counts in zip(store.cases(split), store.index.counts(split), strict=True)
    }
    return replace(store, index=store.index.with_splits(fold_splits(has_tumor, fold)))


def fold_splits(has_tumor: Mapping[str, bool], fold: Fold) -> dict[str, Split]:
    """Return the split of each case in a fold.

    Cases are ordered by a hash of the seed and dealt to the folds in turn. Those with a tumor are dealt first, so that
    each fold gets its share of cases with and without tumor.

    Args:
        has_tumor: whether each case has a tumor.
        fold: fold whose cases are the validation cases.

    Raises:
        ConfigError: there are fewer cases than folds.
    """
    if len(has_tumor) < fold.num_folds:
        raise ConfigError(
            f"{fold.num_folds} folds of {len(has_tumor)} training and validation cases: each fold needs at least one "
            "case; use fewer folds"
        )
    order = sorted(has_tumor, key=lambda case: (not has_tumor[case], unit_hash(case, "fold", fold.seed)))
    held_out = set(order[fold.number :: fold.num_folds])
    return {case: "validation" if case in held_out else "train" for case in has_tumor}
