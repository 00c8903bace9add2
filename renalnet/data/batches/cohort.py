"""The patients of a training run, decoded once a node where the memory budget allows, else a window at a time.

The budget is of the shared copy and of a window alike. A copy is there once a node; a window is each process's own, so
that as many of them lie in memory as there are training processes on the node.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LoaderConfig
from renalnet.data.batches.decoded_cases import CaseSource, DecodedCases, RenumberedSource, StoreSource
from renalnet.data.batches.folds import FOLD_SPLITS, Fold, in_fold
from renalnet.data.batches.node_copy import LAYOUT, NodeCopy, copy_bytes, find_room
from renalnet.data.batches.node_folder import NodeFolder
from renalnet.data.batches.sampler import ENTER_AHEAD
from renalnet.data.store.manifest import Normalisation
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import memory_bytes
from renalnet.types import Split

_MB: Final = 2**20
_DEFAULT_SHARE: Final = 4
"""The budget, where none is given, is this part of the node's memory."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Cohort:
    """Training and validation patients; never test patients."""

    train: DecodedCases
    validation: DecodedCases
    normalisation: Normalisation
    fingerprint: str
    """Changes when any voxel of the store changes, and with the fold."""

    def close(self) -> None:
        """Give up what is decoded; the node's copy goes with its last user. The end of the process does so too."""
        self.train.close()
        self.validation.close()


def load_cohort(store: Store, config: LoaderConfig | None = None, fold: Fold | None = None) -> Cohort:
    """The training and validation patients of a store, or of a fold of it; none is decoded yet.

    Raises:
        ConfigError: the shuffle window does not fit into the memory budget, or there are fewer patients than folds.
    """
    config = config or LoaderConfig()
    budget = int(config.memory_mb * _MB) if config.memory_mb else memory_bytes() // _DEFAULT_SHARE
    if fold:
        return _fold_cohort(store, config, fold, budget)
    held = num_bytes(store, "train")
    fits = held <= budget
    if not fits:
        held = _window_bytes(store, budget, config.window)
    train = _patients(store, "train", config.decoders, fits=fits)
    # Validation goes through the patients one by one: where they do not fit, that one and the next are held.
    fits = num_bytes(store, "validation") <= budget - held
    validation = _patients(store, "validation", config.decoders, fits=fits)
    return Cohort(train, validation, store.normalisation, store.fingerprint)


def _fold_cohort(store: Store, config: LoaderConfig, fold: Fold, budget: int) -> Cohort:
    """A fold takes its patients from the node's copies of the whole splits: however many folds, they are there once.

    Where those do not fit, both of the fold's parts are streamed.
    """
    dealt = in_fold(store, fold)
    fits = sum(num_bytes(store, split) for split in FOLD_SPLITS) <= budget
    if not fits:
        _window_bytes(dealt, budget, config.window)
    places = _places(store, fits=fits)
    train, validation = (
        DecodedCases(
            RenumberedSource(tuple(places[case] for case in dealt.cases(split))),
            dealt.index.shapes(split),
            dealt.index.counts(split),
            num_threads=config.decoders,
            keep_all=fits,
        )
        for split in FOLD_SPLITS
    )
    return Cohort(train, validation, store.normalisation, f"{store.fingerprint}-{fold}")


def _places(store: Store, *, fits: bool) -> dict[str, tuple[CaseSource, int]]:
    """Where each training or validation patient is read, and its number there."""
    places: dict[str, tuple[CaseSource, int]] = {}
    for split in FOLD_SPLITS:
        source = _source(store, split, fits=fits)
        places |= {case: (source, number) for number, case in enumerate(store.cases(split))}
    return places


def copy_name(store: Store, split: Split) -> str:
    """Of the folder with a node's copy of a split, below `node_folder.private_home` of its place."""
    return f"{store.fingerprint}-{split}-{LAYOUT}"


def _patients(store: Store, split: Split, num_threads: int, *, fits: bool) -> DecodedCases:
    """A split's patients: all of them once a node where they fit, else those that each process wants."""
    source = _source(store, split, fits=fits)
    shapes, counts = store.index.shapes(split), store.index.counts(split)
    return DecodedCases(source, shapes, counts, num_threads=num_threads, keep_all=fits)


def _source(store: Store, split: Split, *, fits: bool) -> CaseSource:
    """The node's copy of a split where it fits and there is room, else the store itself."""
    cases = tuple(store.cases(split))
    source = StoreSource(store, cases)
    return (_shared(store, split, source) or source) if cases and fits else source


def _shared(store: Store, split: Split, source: CaseSource) -> NodeCopy | None:
    """The node's copy; none, and said so, where there is no room for it."""
    place = find_room(copy_name(store, split), num_bytes(store, split))
    if place is None:
        _log.warning(
            "no room in /dev/shm or the temporary folder to share the %s patients: each process holds its own", split
        )
        return None
    return NodeCopy(NodeFolder(place), source, store.index.shapes(split), _num_slabs(store, split))


def _window_bytes(store: Store, budget: int, window: int) -> int:
    """What the largest window of training patients takes, and that they are streamed is said. Raises ConfigError."""
    sizes = np.sort(copy_bytes(store.index.shapes("train"), _num_slabs(store, "train")))
    needed = int(sizes[-window - ENTER_AHEAD :].sum())
    if needed > budget:
        raise ConfigError(
            f"loader.window = {window}: so many patients of {store.path} take up to {needed / _MB:.1f} MB, more "
            f"than the budget of {budget / _MB:.1f} MB; lower loader.window or raise loader.memory_mb"
        )
    _log.info("%d patients do not fit into %d MB: streaming %d at a time", len(sizes), budget // _MB, window)
    return needed


def _num_slabs(store: Store, split: Split) -> NDArray[np.int64]:
    return -(-store.index.shapes(split)[:, 0] // store.manifest.config.slab_slices)


def num_bytes(store: Store, split: Split) -> int:
    """Bytes of a split's decoded patients."""
    return int(copy_bytes(store.index.shapes(split), _num_slabs(store, split)).sum())
