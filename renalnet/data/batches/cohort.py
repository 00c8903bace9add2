"""The cases of a training run, decoded once per node where the memory budget allows, else in a sliding window.

The memory budget applies to the shared copy and to a window alike. The copy exists once per node. Each training process
has its own window, so that the windows of a node take a multiple of the budget.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet, LoaderConfig, Normalisation
from renalnet.data.batches.decoded_cases import CaseSource, DecodedCases, RenumberedSource, StoreSource
from renalnet.data.batches.folds import FOLD_SPLITS, Fold, in_fold
from renalnet.data.batches.node_copy import LAYOUT, NodeCopy, copy_bytes, find_room
from renalnet.data.batches.node_folder import NodeFolder
from renalnet.data.batches.sampler import ENTER_AHEAD
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import memory_bytes
from renalnet.types import Split

_MB: Final = 2**20
_DEFAULT_SHARE: Final = 4
"""Divisor of the node's memory that gives the default budget."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Cohort:
    """Training and validation cases; never test cases."""

    train: DecodedCases
    validation: DecodedCases
    labels: LabelSet
    """The labels of the label maps."""
    normalisation: Normalisation
    fingerprint: str
    """Identity of the data: the fingerprint of the store, and the fold."""

    def close(self) -> None:
        """Release the decoded cases, as the end of the process does; the last user of the node's copy removes it."""
        self.train.close()
        self.validation.close()


def load_cohort(store: Store, config: LoaderConfig | None = None, fold: Fold | None = None) -> Cohort:
    """Return the training and validation cases of a store, or of a fold of it; no case is decoded yet.

    Raises:
        ConfigError: the shuffle window exceeds the memory budget, or there are fewer cases than folds.
    """
    config = config or LoaderConfig()
    budget = int(config.memory_mb * _MB) if config.memory_mb else memory_bytes() // _DEFAULT_SHARE
    if fold:
        return _fold_cohort(store, config, fold, budget)
    held = num_bytes(store, "train")
    fits = held <= budget
    if not fits:
        held = _window_bytes(store, budget, config.window)
    train = _decoded(store, "train", config.decoders, fits=fits)
    # Validation visits the cases one by one; where they do not fit, only the current and the next one are in memory.
    fits = num_bytes(store, "validation") <= budget - held
    validation = _decoded(store, "validation", config.decoders, fits=fits)
    return Cohort(train, validation, store.labels, store.normalisation, store.fingerprint)


def _fold_cohort(store: Store, config: LoaderConfig, fold: Fold, budget: int) -> Cohort:
    """Return the cohort of a fold, whose cases come from the node's copies of the whole splits.

    The copies thus exist once, however many folds run on the node. Where they exceed the budget, both parts of the fold
    are streamed.
    """
    fold_store = in_fold(store, fold)
    fits = sum(num_bytes(store, split) for split in FOLD_SPLITS) <= budget
    if not fits:
        # Called for its check and its log.
        _window_bytes(fold_store, budget, config.window)
    places = _places(store, fits=fits)
    train, validation = (
        DecodedCases(
            RenumberedSource(tuple(places[case] for case in fold_store.cases(split))),
            fold_store.index.shapes(split),
            fold_store.index.counts(split),
            num_threads=config.decoders,
            keep_all=fits,
        )
        for split in FOLD_SPLITS
    )
    # With the fold, so that a run never resumes from a checkpoint of another fold.
    return Cohort(train, validation, store.labels, store.normalisation, f"{store.fingerprint}-{fold}")


def _places(store: Store, *, fits: bool) -> dict[str, tuple[CaseSource, int]]:
    """Return the source of each training and validation case, and the case's number there."""
    places: dict[str, tuple[CaseSource, int]] = {}
    for split in FOLD_SPLITS:
        source = _source(store, split, fits=fits)
        places |= {case: (source, number) for number, case in enumerate(store.cases(split))}
    return places


def copy_name(store: Store, split: Split) -> str:
    """Return the name of the folder with a node's copy of a split, below `node_folder.private_home`."""
    return f"{store.fingerprint}-{split}-{LAYOUT}"


def _decoded(store: Store, split: Split, num_threads: int, *, fits: bool) -> DecodedCases:
    """Return the cases of a split: all of them once per node where they fit, else a window for each process."""
    source = _source(store, split, fits=fits)
    shapes = store.index.shapes(split)
    counts = store.index.counts(split)
    return DecodedCases(source, shapes, counts, num_threads=num_threads, keep_all=fits)


def _source(store: Store, split: Split, *, fits: bool) -> CaseSource:
    """Return the node's copy of a split where it fits the budget and there is room, else the store itself."""
    cases = tuple(store.cases(split))
    source = StoreSource(store, cases)
    # An empty split is not shared, because an empty file cannot be mapped.
    return (_shared(store, split, source) or source) if cases and fits else source


def _shared(store: Store, split: Split, source: CaseSource) -> NodeCopy | None:
    """Return the node's copy of a split, or None with a warning where there is no room for it."""
    place = find_room(copy_name(store, split), num_bytes(store, split))
    if place is None:
        _log.warning(
            "no room in /dev/shm or the temporary folder to share the %s cases; each process decodes its own", split
        )
        return None
    return NodeCopy(NodeFolder(place), source, store.index.shapes(split), _num_slabs(store, split), len(store.labels))


def _window_bytes(store: Store, budget: int, window: int) -> int:
    """Return the bytes of the largest window of training cases, and log that they are streamed.

    Raises:
        ConfigError: the window exceeds the budget.
    """
    sizes = np.sort(copy_bytes(store.index.shapes("train"), _num_slabs(store, "train"), len(store.labels)))
    # The largest cases, because sooner or later these may be in the window together.
    needed = int(sizes[-window - ENTER_AHEAD :].sum())
    if needed > budget:
        raise ConfigError(
            f"loader.window = {window}: that many cases of {store.path} take up to {needed / _MB:.1f} MB, more "
            f"than the budget of {budget / _MB:.1f} MB; lower loader.window or raise loader.memory_mb"
        )
    _log.info("%d cases exceed %d MB; streaming with a window of %d cases", len(sizes), budget // _MB, window)
    return needed


def _num_slabs(store: Store, split: Split) -> NDArray[np.int64]:
    return -(-store.index.shapes(split)[:, 0] // store.manifest.config.slab_slices)


def num_bytes(store: Store, split: Split) -> int:
    """Return the bytes of all decoded cases of a split."""
    return int(copy_bytes(store.index.shapes(split), _num_slabs(store, split), len(store.labels)).sum())
