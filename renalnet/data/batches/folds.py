"""Cross-validation within a store: its training and validation patients together, dealt anew; never test patients.

What was fitted when the store was made, the mean of the intensities and the atlases, stays that of its own training
patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from renalnet.data.cases.splits import unit_hash
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.types import TUMOR, Split

FOLD_SPLITS: Final[tuple[Split, Split]] = ("train", "validation")
"""The splits whose patients are dealt."""


@dataclass(frozen=True)
class Fold:
    """One of the parts into which the patients are dealt: validated on, while the others are trained on."""

    number: int
    """From 0."""
    num_folds: int
    seed: int
    """Of the deal; the same for all folds that belong together."""

    def __str__(self) -> str:
        """`fold-0-of-5-seed-7`."""
        return f"fold-{self.number}-of-{self.num_folds}-seed-{self.seed}"


def in_fold(store: Store, fold: Fold) -> Store:
    """The same store with the splits of a fold.

    Raises:
        ConfigError: there are fewer patients than folds.
    """
    has_tumor = {
        case: bool(counts[TUMOR])
        for split in FOLD_SPLITS
        for case, counts in zip(store.cases(split), store.index.counts(split), strict=True)
    }
    return replace(store, index=store.index.with_splits(fold_splits(has_tumor, fold)))


def fold_splits(has_tumor: Mapping[str, bool], fold: Fold) -> dict[str, Split]:
    """The split of each case in a fold: cases in an order of the seed, dealt in turn to as many folds as there are.

    Those with a tumor are dealt first, so that each fold gets its share of them and of the healthy ones.

    Args:
        has_tumor: of each case.
        fold: which part is validated on.

    Raises:
        ConfigError: there are fewer cases than folds.
    """
    if len(has_tumor) < fold.num_folds:
        raise ConfigError(
            f"{fold.num_folds} folds of {len(has_tumor)} training and validation patients: each needs a patient or "
            "more; ask for fewer folds"
        )
    order = sorted(has_tumor, key=lambda case: (not has_tumor[case], unit_hash(case, "fold", fold.seed)))
    held_out = set(order[fold.number :: fold.num_folds])
    return {case: "validation" if case in held_out else "train" for case in has_tumor}
