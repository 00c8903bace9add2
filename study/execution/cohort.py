"""The cohort of a study: a store that the user names, or a synthetic one that the study makes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from renalnet.config.labels import require_same_labels
from renalnet.data.cases.splits import MIN_VALIDATION, few_validation
from renalnet.data.store.reader import MANIFEST as STORE_MANIFEST
from renalnet.data.store.reader import Store, open_store
from renalnet.errors import ConfigError, StoreError
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import num_cores
from renalnet.types import SPLITS
from study.config.sections import StudyConfig
from study.records.manifest import StudyManifest
from study.records.results import Results

_log = get_logger(__name__)


def check_store(store: Store, config: StudyConfig) -> None:
    """Check that a study can use a store, before anything is written.

    Raises:
        StoreError: a split has no cases.
        ConfigError: the store has other labels or another voxel spacing, too few validation cases to choose by, or its
            cases cannot be dealt to the folds.
    """
    for split in SPLITS:
        if not store.cases(split):
            raise StoreError(
                f"{store.path}: no {split} cases; prepare the store with more cases, or with --test or --splits"
            )
    require_same_labels(store.labels, config.labels, store.path, "the study", ConfigError)
    spacing = store.manifest.config.spacing_mm
    if spacing != config.prepare.spacing_mm:
        raise ConfigError(
            f"{store.path} was prepared at {spacing} mm, but the preset '{config.preset}' uses "
            f"{config.prepare.spacing_mm} mm; choose the preset of the store, or set prepare.spacing_mm"
        )
    _check_validation(config, store)
    check_folds(config, store)


def _check_validation(config: StudyConfig, store: Store) -> None:
    least = config.search.min_validation_cases
    count = len(store.cases("validation"))
    if count < least and not config.final.folds:
        raise ConfigError(
            f"{store.path}: {few_validation(count, least)}, or accept them with --set "
            f"search.min_validation_cases={count}"
        )


def check_folds(config: StudyConfig, store: Store) -> None:
    """Check before the search that the cases can be dealt to folds, and that each fold fits into memory.

    Raises:
        ConfigError: they cannot.
    """
    # Imports PyTorch, for which a command whose store is refused need not wait.
    from renalnet.data.batches.cohort import load_cohort
    from renalnet.data.batches.folds import Fold

    for number in range(config.final.folds):
        # This decodes no case: it deals the cases and compares their sizes with the memory budget.
        load_cohort(store, config.train.loader, Fold(number, config.final.folds, config.seed)).close()


def report_cases(config: StudyConfig, store: Store) -> None:
    """Log how many cases each split has, and a warning where the search chooses by too few."""
    counts = ", ".join(f"{len(store.cases(split))} {split}" for split in SPLITS)
    _log.info("cases: %s", counts)
    num_validation = len(store.cases("validation"))
    if num_validation >= MIN_VALIDATION:
        return
    if config.final.folds:
        _log.info("%d folds choose the winner, because there are few validation cases", config.final.folds)
    else:
        _log.warning("warning: %s", few_validation(num_validation))


def given_store(manifest: StudyManifest, path: str) -> Store:
    """Open the store that the user names, and describe it in the manifest."""
    store = open_store(path)
    manifest.describe_data(store, path, synthetic=store.manifest.synthetic)
    return store


def embedded_store(manifest: StudyManifest, config: StudyConfig, results: Results) -> Store:
    """Open the store of the synthetic cohort in the results folder, and describe it in the manifest.

    The cohort is painted and prepared first, unless an earlier call has done so.
    """
    path = results.store_folder
    if not storage.is_remote(path):
        _paint_and_prepare(manifest, config, Path(results.cohort_folder), path)
    # The manifest of a store is written last, so a store that has one is whole.
    elif not storage.exists(storage.join(path, STORE_MANIFEST)):
        with TemporaryDirectory(prefix="renalnet-cohort-") as cohort:  # scans are painted as local files only
            _paint_and_prepare(manifest, config, Path(cohort), path)
    store = open_store(path)
    # Only now, because the check needs the store, which was not there before.
    check_folds(config, store)
    manifest.describe_data(store, "synthetic phantoms", synthetic=True)
    return store


def _paint_and_prepare(manifest: StudyManifest, config: StudyConfig, cohort: Path, store: str) -> None:
    """Do the parts that an earlier call has not done."""
    # Imports PyTorch, for which a command whose store is refused need not wait.
    from renalnet.data.phantom import write_cohort
    from renalnet.data.prepare.preparation import local_pool, prepare
    from renalnet.data.prepare.request import Request

    workers = num_cores()
    with manifest.timed("phantom"):
        _log.info("painting %d synthetic cases", config.phantom.num_cases)
        write_cohort(cohort, config.phantom, workers=workers)
    if not storage.exists(storage.join(store, STORE_MANIFEST)):
        with manifest.timed("prepare"):
            _log.info("preparing their regions of interest")
            with local_pool(workers) as pool:
                prepare(Request(str(cohort), store, config.prepare), pool)
